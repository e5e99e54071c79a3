// What the host waits for, as Python has it (native_calls.py).
#pragma once

enum { WAIT_STREAM, WAIT_DEVICE, WAIT_EVENT, WAIT_COPY_TO_HOST, WAIT_COPY_TO_DEVICE, WAIT_ITEM, WAIT_CONTENT, WAIT_KINDS };

#ifdef __cplusplus
extern "C"
#endif
// Counts it, and tells who listens. The lock of the runtime must not be held: a listener takes Python's.
void software_npu_waited(int kind);
