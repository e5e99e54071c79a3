// Memory that is mapped: addresses are reserved first, and memory is put behind them later (expandable_segments).
#include "runtime.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct physical {
  int file;
  size_t size;
  int device;
} physical;

typedef struct range {
  char *at;
  size_t size;
  struct range *next;
} range;

static range *reserved, *mapped;

extern int software_npu_take(int device, size_t size);
extern void software_npu_give_back(int device, size_t size);

static void note(range **all, void *at, size_t size) {
  range *one = malloc(sizeof *one);
  *one = (range){at, size, *all};
  *all = one;
}

// Takes the range that begins at an address out of a list; returns its size, 0 where there is none.
static size_t taken(range **all, void *at) {
  for (range **r = all; *r; r = &(*r)->next) {
    if ((*r)->at != at) continue;
    range *gone = *r;
    size_t size = gone->size;
    *r = gone->next;
    free(gone);
    return size;
  }
  return 0;
}

static int put_nothing(void *at, size_t size, int how) {
  return mmap(at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | how, -1, 0) == MAP_FAILED;
}

int aclrtReserveMemAddress(void **at, size_t size, size_t alignment, void *wish, uint64_t flags) {
  LOCKED;
  void *found = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) return software_npu_fail(OUT_OF_MEMORY, "%zu addresses cannot be reserved.", size);
  note(&reserved, *at = found, size);
  return OK;
}

int aclrtReleaseMemAddress(void *at) {
  LOCKED;
  size_t size = taken(&reserved, at);
  return size && !munmap(at, size) ? OK : software_npu_fail(BAD_PARAMETER, "addresses are released that were not reserved.");
}

int aclrtMallocPhysical(void **handle, size_t size, const void *properties, uint64_t flags) {
  int device = software_npu_device();
  int error = software_npu_take(device, size);
  if (error) return error;
  int file = memfd_create("software NPU", MFD_CLOEXEC);
  if (file < 0 || ftruncate(file, size)) {
    software_npu_give_back(device, size);
    return software_npu_fail(OUT_OF_MEMORY, "this machine has no %zu bytes more for device %d.", size, device);
  }
  physical *made = malloc(sizeof *made);
  *made = (physical){file, size, device};
  *handle = made;
  return OK;
}

int aclrtFreePhysical(void *handle) {
  physical *gone = handle;
  close(gone->file);
  software_npu_give_back(gone->device, gone->size);
  free(gone);
  return OK;
}

int aclrtMapMem(void *at, size_t size, size_t offset, void *handle, uint64_t flags) {
  LOCKED;
  int file = ((physical *)handle)->file;
  if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, offset) == MAP_FAILED) {
    return software_npu_fail(BAD_PARAMETER, "%zu bytes cannot be mapped.", size);
  }
  if (software_npu_number("ASCEND_OVERLAY_NPU_POISON", 0)) memset(at, 0xff, size);
  note(&mapped, at, size);
  return OK;
}

int aclrtUnmapMem(void *at) {
  LOCKED;
  size_t size = taken(&mapped, at);
  return size && !put_nothing(at, size, MAP_FIXED) ? OK : software_npu_fail(BAD_PARAMETER, "memory is unmapped that was not mapped.");
}
