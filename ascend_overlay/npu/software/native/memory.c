// Memory of devices, of a size that ends, and pinned memory of the host.
#include "runtime.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 512, MARK = 0x4e505521 };

// Stands before each piece of device memory, in a place of its own so that the piece stays aligned.
typedef struct piece {
  size_t size;
  int device, mark;
} piece;

static _Atomic long long in_use[MOST_DEVICES];

static long long capacity(void) { return software_npu_number("ASCEND_OVERLAY_NPU_MEMORY", 8LL << 30); }

static size_t rounded(size_t size) { return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

// Counts memory of a device, if there is enough.
int software_npu_take(int device, size_t size) {
  if (atomic_fetch_add(&in_use[device], size) + (long long)size <= capacity()) return OK;
  long long used = atomic_fetch_sub(&in_use[device], size) - (long long)size;
  return software_npu_fail(OUT_OF_MEMORY, "device %d has %lld bytes (--npu-memory), %lld of them in use; %zu more are not there.", device,
                           capacity(), used, size);
}
void software_npu_give_back(int device, size_t size) { atomic_fetch_sub(&in_use[device], size); }

int aclrtMalloc(void **to, size_t size, int policy) {
  int device = software_npu_device();
  size_t taken = rounded(size);
  int error = software_npu_take(device, taken);
  if (error) return error;
  char *base = aligned_alloc(ALIGNMENT, taken + ALIGNMENT);
  if (!base) {
    software_npu_give_back(device, taken);
    return software_npu_fail(OUT_OF_MEMORY, "this machine has no %zu bytes more for device %d.", taken, device);
  }
  *(piece *)base = (piece){taken, device, MARK};
  *to = base + ALIGNMENT;
  // All bits set are NaN in every float dtype, and -1 in every signed one: what was never written is seen.
  if (software_npu_number("ASCEND_OVERLAY_NPU_POISON", 0)) memset(*to, 0xff, taken);
  return OK;
}

int aclrtMallocAlign32(void **to, size_t size, int policy) { return aclrtMalloc(to, size, policy); }
int aclrtMallocWithCfg(void **to, size_t size, int policy, void *config) { return aclrtMalloc(to, size, policy); }

int aclrtFree(void *at) {
  if (!at) return OK;
  piece *found = (piece *)((char *)at - ALIGNMENT);
  if (found->mark != MARK) return software_npu_fail(BAD_PARAMETER, "aclrtFree was given what is no memory of a device.");
  software_npu_give_back(found->device, found->size);
  found->mark = 0;
  free(found);
  return OK;
}

int aclrtGetMemInfo(int kind, size_t *unused, size_t *all) {
  *all = capacity();
  *unused = *all - atomic_load(&in_use[software_npu_device()]);
  return OK;
}

int aclrtMallocHost(void **to, size_t size) {
  *to = aligned_alloc(ALIGNMENT, rounded(size ? size : 1));
  return *to ? OK : software_npu_fail(OUT_OF_MEMORY, "this machine has no %zu bytes more of pinned memory.", size);
}
int aclrtMallocHostWithCfg(void **to, uint64_t size, void *config) { return aclrtMallocHost(to, size); }

int aclrtFreeHost(void *at) {
  free(at);
  return OK;
}
