// The kernels behind device "npu": any operator by its CPU kernel, and copies.
#pragma once

#include <torch/library.h>

#include <cstdlib>

#include "call.h"
#include "counting.h"
#include "recording.h"

namespace software_npu {

// A device cannot read the host's memory. PyTorch itself moves indices over.
inline void refuse_host_tensors(const c10::FunctionSchema& schema, const Call& call) {
  if (call.on_host.empty() || !call.any_npu_tensor()) return;
  auto& name = schema.name();
  bool moves = name.rfind("aten::index", 0) == 0 || name.rfind("aten::_index", 0) == 0 || name == "aten::_unsafe_index" ||
               name == "aten::_unsafe_index_put" || name == "aten::_foreach_copy_";
  TORCH_CHECK(moves, "software NPU: ", name, " was given tensors of the NPU and a ", call.on_host, " of the CPU");
}

inline void refuse_without_kernel(const c10::OperatorHandle& op) {
  if (op.hasComputedKernelForDispatchKey(c10::DispatchKey::CPU)) return;
  TORCH_CHECK_NOT_IMPLEMENTED(false, "software NPU: ", op.schema().operator_name(),
                              " has no kernel here. A reference kernel for it can come from a plugin (hook ascend_overlay_kernels).");
}

inline void by_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  auto& schema = op.schema();
  auto arguments = taken(stack, schema.arguments().size());
  if (Counts::all().on) {
    Counts::all().call(schema, arguments);
    // The value, or the shape of a result, is known to the host only once the device has come so far.
    if (schema.name() == "aten::_local_scalar_dense") software_npu_waited(WAIT_ITEM);
    else if (depends_on_content(op, arguments)) software_npu_waited(WAIT_CONTENT);
  }
  refuse_without_kernel(op);
  if (state() != State::at_once && record(op, arguments, stack)) return;
  Call call;
  for (size_t i = 0; i < arguments.size(); i++) stack->push_back(call.lower(arguments[i], may_grow(schema.arguments()[i])));
  refuse_host_tensors(schema, call);
  {
    c10::optional<Drawing> drawing;
    if (draws(op)) drawing.emplace(generator_of(arguments), call.device.value_or(current_device()));
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
  }
  auto results = taken(stack, schema.returns().size());
  call.settle();
  for (auto& result : results) stack->push_back(call.raise(result));
}

// Operators that are made of others, where torch_npu puts something of its own for gradients: what PyTorch makes them of.
inline void by_parts(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::AutogradCPU), stack);
}

// Operators that PyTorch makes of others for every device, where torch_npu has a kernel of its own: those others are asked.
inline void by_composition(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  // The kernel for CPU is the one for all devices; it is given the tensors as they are.
  op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
}

inline void count_copy(const Tensor& to, const Tensor& from, bool waited_for) {
  if (!Counts::all().on) return;
  if (on_npu(to) && on_npu(from)) {
    return Counts::all().add(std::string("aten::copy_\t") + c10::toString(to.scalar_type()) + "," + c10::toString(from.scalar_type()));
  }
  std::string way = on_npu(to) ? "to the device" : "to the host";
  Counts::all().add("copy " + way + "\t" + (waited_for ? "waited for" : "not waited for"));
  if (waited_for) software_npu_waited(on_npu(to) ? WAIT_COPY_TO_DEVICE : WAIT_COPY_TO_HOST);
}

inline void transfer(const Tensor& to, const Tensor& from, bool non_blocking) {
  auto& host = on_npu(to) ? from : to;
  bool waits = !on_npu(host) && !(non_blocking && host.is_pinned());
  count_copy(to, from, waits);
  if (waits && state() != State::at_once) {
    wait_for_stream("a copy between host and device is waited for (it is not non_blocking, or its memory is not pinned)");
  }
  auto now = state();
  if (now == State::at_once) {
    plain(to).copy_(plain(from));
    return;
  }
  // Memory of the host that a capture reads or writes is known by its address; a queued copy keeps it.
  auto kept = [&](const Tensor& t) { return on_npu(t) || now != State::blocked ? borrowed(t) : t; };
  push("copy", [to = kept(to), from = kept(from)] { Tensor(to).copy_(from); });
}

inline Tensor& copy_(Tensor& self, const Tensor& from, bool non_blocking) {
  transfer(self, from, non_blocking);
  return self;
}

inline Tensor copy_from(const Tensor& from, const Tensor& to, bool non_blocking) {
  transfer(to, from, non_blocking);
  return to;
}

}  // namespace software_npu
