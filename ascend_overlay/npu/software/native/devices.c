// Devices: how many there are, which one a thread is on, and what they say of themselves.
#include "runtime.h"

#include <stdlib.h>
#include <string.h>

static int contexts[MOST_DEVICES];  // a context stands for its device
static __thread int device = -1;    // -1: the thread has chosen none

static int count_devices(void) {
  long long all = software_npu_number("ASCEND_OVERLAY_NPU_DEVICES", 1);
  int there = all < 1 ? 1 : all > MOST_DEVICES ? MOST_DEVICES : (int)all;
  const char *visible = getenv("ASCEND_RT_VISIBLE_DEVICES");
  if (!visible) return there;
  // As CANN reads it: what follows an identifier that does not exist is not seen.
  int seen = 0;
  for (char *end; *visible; visible = *end == ',' ? end + 1 : end) {
    long one = strtol(visible, &end, 10);
    if (end == visible || one < 0 || one >= there) break;
    seen++;
  }
  return seen;
}

int software_npu_device(void) { return device < 0 ? 0 : device; }

int aclrtGetDeviceCount(uint32_t *count) {
  *count = count_devices();
  return OK;
}

int aclrtSetDevice(int32_t which) {
  if (which < 0 || which >= count_devices()) {
    return software_npu_fail(BAD_DEVICE, "there is no device %d; there are %d (--npu-devices).", which, count_devices());
  }
  device = which;
  return OK;
}

int aclrtGetDevice(int32_t *which) {
  *which = software_npu_device();
  return device < 0 ? BAD_DEVICE : OK;
}

int aclrtResetDevice(int32_t which) { return OK; }

int aclrtGetCurrentContext(void **context) {
  *context = device < 0 ? NULL : &contexts[device];
  return device < 0 ? BAD_DEVICE : OK;
}

int aclrtSetCurrentContext(void *context) {
  device = (int)((int *)context - contexts);
  return OK;
}

int aclrtGetPrimaryCtxState(int32_t which, uint32_t *flags, int32_t *active) {
  if (flags) *flags = 0;
  *active = which == device;
  return OK;
}

const char *aclrtGetSocName(void) { return "Ascend910B3"; }

int aclrtGetRunMode(int *mode) {
  *mode = 1;
  return OK;
}

int aclrtDeviceGetBareTgid(int32_t *process) {
  *process = 1;
  return OK;
}

// Peers: a copy from one device to another is one in this machine's memory.
int aclrtDeviceCanAccessPeer(int32_t *can, int32_t one, int32_t other) {
  *can = 1;
  return OK;
}
int aclrtDeviceEnablePeerAccess(int32_t peer, uint32_t flags) { return OK; }

// Cores and cache of the device that it says it is.
int aclGetDeviceCapability(uint32_t which, int kind, int64_t *value) {
  static const int64_t known[] = {20, 40, 192 << 20};
  if (kind < 0 || kind > 2) return software_npu_fail(BAD_PARAMETER, "aclGetDeviceCapability has no %d.", kind);
  *value = known[kind];
  return OK;
}

int aclrtGetDeviceInfo(uint32_t which, int kind, int64_t *value) {
  switch (kind) {
    case 101:
    case 102: return aclGetDeviceCapability(which, 0, value);
    case 201: return aclGetDeviceCapability(which, 1, value);
    case 302: return aclGetDeviceCapability(which, 2, value);
  }
  return software_npu_fail(NOT_SUPPORTED, "aclrtGetDeviceInfo has no %d.", kind);
}
