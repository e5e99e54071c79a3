// Copies, in the order of their stream.
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct copy {
  void *to;
  const void *from;  // NULL: memory is filled with `byte`
  size_t size;
  int byte;
} copy;

extern int software_npu_state(void *stream);

static int run(void *data) {
  copy *c = data;
  if (c->from) memmove(c->to, c->from, c->size);
  else memset(c->to, c->byte, c->size);
  return OK;
}

static int in_order(void *on, const char *name, copy c) {
  if (software_npu_state(on) == STREAM_AT_ONCE) return run(&c);
  LOCKED;
  copy *kept = malloc(sizeof c);
  *kept = c;
  task what = {.run = run, .drop = free, .data = kept};
  snprintf(what.name, sizeof what.name, "%s", name);
  return software_npu_give(software_npu_stream(on), what);
}

static int after_all(copy c) {
  if (__atomic_load_n(&software_npu_busy, __ATOMIC_SEQ_CST)) {
    LOCKED;
    int error = software_npu_device_wait(software_npu_device());
    if (error) return error;
  }
  return run(&c);
}

static int fits(size_t size, size_t room) {
  return size <= room ? OK : software_npu_fail(BAD_PARAMETER, "%zu bytes are copied to where %zu have room.", size, room);
}

int aclrtMemcpy(void *to, size_t room, const void *from, size_t size, int kind) {
  int error = fits(size, room);
  return error ? error : after_all((copy){to, from, size, 0});
}
int aclrtMemset(void *to, size_t room, int32_t byte, size_t size) {
  int error = fits(size, room);
  return error ? error : after_all((copy){to, NULL, size, byte});
}
int aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t size, int kind, void *on) {
  int error = fits(size, room);
  return error ? error : in_order(on, "memcpy", (copy){to, from, size, 0});
}
int aclrtMemsetAsync(void *to, size_t room, int32_t byte, size_t size, void *on) {
  int error = fits(size, room);
  return error ? error : in_order(on, "memset", (copy){to, NULL, size, byte});
}
