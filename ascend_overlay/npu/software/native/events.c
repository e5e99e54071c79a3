// Events, and values in memory that a stream waits for: torch_npu's events from outside a graph.
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct event {
  int done;
  double when;           // in milliseconds
  int tasks;             // that name it, and wait in streams
  int destroyed;         // freed as soon as none does
  uint32_t captured_in;  // identifier of the graph whose capture recorded it; 0: none
  int from;              // identifier of the stream that recorded it
} event;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static event *make(void) {
  event *e = calloc(1, sizeof *e);
  e->done = 1;
  e->when = now();
  return e;
}

static int set(void *data) {
  event *e = data;
  e->done = 1;
  e->when = now();
  return OK;
}
static int is_set(void *data) { return ((event *)data)->done; }
static int is_pending(void *data) { return !((event *)data)->done; }
static int nothing(void *data) { return OK; }
static void one_task_less(void *data) {
  LOCKED;
  event *e = data;
  if (!--e->tasks && e->destroyed) free(e);
}

static task named(const char *name, int (*run)(void *), int (*ready)(void *), void (*drop)(void *), void *data) {
  task what = {.run = run, .ready = ready, .drop = drop, .data = data};
  snprintf(what.name, sizeof what.name, "%s", name);
  return what;
}

int aclrtCreateEvent(void **handle) { return *handle = make(), OK; }
int aclrtCreateEventWithFlag(void **handle, uint32_t flags) { return *handle = make(), OK; }
int aclrtCreateEventExWithFlag(void **handle, uint32_t flags) { return *handle = make(), OK; }

int aclrtDestroyEvent(void *handle) {
  LOCKED;
  event *e = handle;
  e->destroyed = 1;
  if (!e->tasks) free(e);
  return OK;
}

int aclrtResetEvent(void *handle, void *on) { return OK; }

int aclrtRecordEvent(void *handle, void *on) {
  LOCKED;
  event *e = handle;
  stream *s = software_npu_stream(on);
  e->captured_in = s->captured_by ? s->captured_by->id : 0;
  e->from = s->id;
  if (s->captured_by) return OK;
  if (!s->head) {
    set(e);
    return software_npu_wake();
  }
  e->done = 0;
  e->tasks++;
  return software_npu_give(s, named("event record", set, NULL, one_task_less, e));
}

static stream *stream_with(int id) {
  stream *s = software_npu_streams;
  while (s && s->id != id) s = s->next;
  return s;
}

static graph *capture_of(uint32_t id) {
  for (stream *s = software_npu_streams; s; s = s->next) {
    if (s->captured_by && s->captured_by->id == id) return s->captured_by;
  }
  return NULL;
}

// A stream that waits for an event of a capture becomes part of it; what it waits for is then joined.
static int wait_in_capture(stream *s, event *e) {
  graph *g = capture_of(e->captured_in);
  if (!g || (s->captured_by && s->captured_by != g)) {
    return software_npu_fail(CAPTURE_UNMATCHED, "a stream waits for an event of another capture.");
  }
  stream *from = stream_with(e->from);
  if (from && from != s) from->joined = 1;
  if (!s->captured_by) {
    s->captured_by = g;
    s->joined = 0;
    software_npu_count_busy();
  }
  return OK;
}

int aclrtStreamWaitEvent(void *on, void *handle) {
  LOCKED;
  event *e = handle;
  stream *s = software_npu_stream(on);
  if (e->captured_in) return wait_in_capture(s, e);
  if (s->captured_by || e->done) return OK;
  e->tasks++;
  return software_npu_give(s, named("event wait", nothing, is_set, one_task_less, e));
}

int aclrtSynchronizeEvent(void *handle) {
  software_npu_waited(WAIT_EVENT);
  LOCKED;
  event *e = handle;
  if (e->captured_in) {
    graph *g = capture_of(e->captured_in);
    if (g) g->state = CAPTURE_INVALID;
    return software_npu_fail(EVENT_CAPTURED, "an event of a capture cannot be waited for.");
  }
  if (!software_npu_wait_while(is_pending, e)) return OK;
  return software_npu_fail(NEVER_DONE, "the event comes after what nobody does.");
}

int aclQueryEventRecordedStatus(void *handle, int *done) {
  LOCKED;
  *done = ((event *)handle)->done;
  return OK;
}
int aclrtQueryEventStatus(void *handle, int *done) { return aclQueryEventRecordedStatus(handle, done); }
int aclrtQueryEventWaitStatus(void *handle, int *done) { return aclQueryEventRecordedStatus(handle, done); }

int aclrtEventElapsedTime(float *milliseconds, void *from, void *to) {
  LOCKED;
  *milliseconds = (float)(((event *)to)->when - ((event *)from)->when);
  return OK;
}

typedef struct value {
  uint64_t *at, is;
} value;

static value *make_value(void *at, uint64_t is) {
  value *v = malloc(sizeof *v);
  *v = (value){at, is};
  return v;
}
static int is_there(void *data) { return *((value *)data)->at == ((value *)data)->is; }
static int write_it(void *data) {
  *((value *)data)->at = ((value *)data)->is;
  return OK;
}

int aclrtValueWait(void *at, uint64_t is, uint32_t how, void *on) {
  LOCKED;
  return software_npu_give(software_npu_stream(on), named("value wait", nothing, is_there, free, make_value(at, is)));
}

int aclrtValueWrite(void *at, uint64_t is, uint32_t how, void *on) {
  LOCKED;
  int error = software_npu_give(software_npu_stream(on), named("value write", write_it, NULL, free, make_value(at, is)));
  return error ? error : software_npu_wake();
}
