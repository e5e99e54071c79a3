// The stream that a call belongs to, and what it may be given.
#pragma once

#include <ATen/ATen.h>
#include <torch_npu/csrc/core/npu/NPUStream.h>

#include "waits.h"

extern "C" {
extern int software_npu_busy;
int software_npu_state(void* stream);
void software_npu_invalidate(void* stream);
int software_npu_push(void* stream, int (*run)(void*), void (*drop)(void*), void* data, const char* name);
void software_npu_say(const char* text);
const char* aclGetRecentErrMsg(void);
}

namespace software_npu {

enum class State { at_once, capturing, updating, blocked };

constexpr int TASK_FAILED = 507011;

// Once torch_npu has handed over what is in its own queue: events, and what it copies when a tensor gets another size.
inline void* current_stream() { return c10_npu::getCurrentNPUStream().stream(true); }

inline State state() {
  // First of all, since what is handed over may have the stream wait.
  void* stream = current_stream();
  if (!__atomic_load_n(&software_npu_busy, __ATOMIC_SEQ_CST)) return State::at_once;
  return State(software_npu_state(stream));
}

// What needs the stream to be idle: in a capture an error, elsewhere a wait.
template <class... Text>
void wait_for_stream(const Text&... text) {
  auto now = state();
  if (now == State::blocked || now == State::at_once) return c10_npu::getCurrentNPUStream().synchronize();
  software_npu_invalidate(current_stream());
  TORCH_CHECK(false, "software NPU: on a stream that is being captured, ", text...);
}

// Gives the stream a callable, to be done when its turn comes.
template <class Work>
void push(const std::string& name, Work work) {
  auto run = [](void* data) {
    try {
      // Some other thread's modes must not decide: no gradients, and tensors made in inference mode want that mode.
      c10::InferenceMode mode;
      (*static_cast<Work*>(data))();
      return 0;
    } catch (const std::exception& error) {
      software_npu_say(error.what());
      return TASK_FAILED;
    }
  };
  auto drop = [](void* data) { delete static_cast<Work*>(data); };
  int error = software_npu_push(current_stream(), run, drop, new Work(std::move(work)), name.c_str());
  TORCH_CHECK(!error, name, ": ", aclGetRecentErrMsg(), " (", error, ")");
}

}  // namespace software_npu
