// Calls that are not done now: a record has the operator, the addresses of its tensors, and its numbers as they are at this moment.
// It keeps no memory alive, as a card keeps none, so what is used after it was freed is seen.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include "call.h"
#include "current_stream.h"
#include "randomness.h"

namespace software_npu {

inline void gather(const IValue& v, std::vector<Tensor>& found) {
  if (v.isTensor()) found.push_back(v.toTensor());
  if (v.isList())
    for (const IValue& each : v.toListRef()) gather(each, found);
}

struct Recorded {
  c10::OperatorHandle op;
  std::vector<IValue> arguments;
  std::vector<Tensor> results;  // as Call::made
  bool random;
  at::Generator generator;
  c10::Device device;

  void operator()() const {
    c10::optional<Drawing> drawing;
    if (random) drawing.emplace(generator, device);
    torch::jit::Stack stack;
    for (auto& a : arguments) stack.push_back(fresh(a));
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
    std::vector<Tensor> found;
    for (auto& v : stack) {
      gather(v, found);
      // A collective: the stream waits for it here, and nobody else does.
      if (v.isCustomClass() && v.toObjectRef().name().find("Work") != std::string::npos) v.toCustomClass<c10d::Work>()->wait();
    }
    if (!results.empty()) keep(found);
  }

 private:
  // A kernel may change the shape of what it is given; the record is for the next replay, too.
  static IValue fresh(const IValue& v) {
    if (v.isTensor() && v.toTensor().defined()) {
      auto* impl = v.toTensor().unsafeGetTensorImpl();
      return Tensor(impl->shallow_copy_and_detach(c10::VariableVersion(0), true));
    }
    if (!v.isList()) return v;
    c10::impl::GenericList list(v.toList().elementType());
    for (const IValue& each : v.toListRef()) list.push_back(fresh(each));
    return list;
  }

  void keep(const std::vector<Tensor>& found) const {
    auto& name = op.schema().name();
    TORCH_CHECK(found.size() == results.size(), "software NPU: ", name, " made ", found.size(), " tensors, but ", results.size(), " when it was recorded");
    for (size_t i = 0; i < found.size(); i++) {
      if (!results[i].defined()) continue;
      TORCH_CHECK(found[i].sizes() == results[i].sizes() && found[i].dtype() == results[i].dtype(), "software NPU: ", name, " made ",
                  found[i].dtype(), found[i].sizes(), ", but ", results[i].dtype(), results[i].sizes(), " when it was recorded");
      if (found[i].numel()) Tensor(results[i]).copy_(found[i]);
    }
  }
};

// What an asynchronous collective returns: the stream waits for it, not whoever asks.
struct OnStream : c10d::Work {
  bool isCompleted() override { return true; }
  bool isSuccess() const override { return true; }
  bool wait(std::chrono::milliseconds) override { return true; }
};

inline Recorded lowered(const c10::OperatorHandle& op, const std::vector<IValue>& arguments) {
  Call views(Call::Purpose::record);
  Recorded recorded{op, {}, {}, draws(op), generator_of(arguments), current_device()};
  for (auto& v : arguments) recorded.arguments.push_back(views.lower(v, false));
  if (views.device) recorded.device = *views.device;
  return recorded;
}

// Collectives write to their first argument, and return it.
inline void record_collective(const c10::OperatorHandle& op, const std::vector<IValue>& arguments, torch::jit::Stack* stack) {
  push(op.schema().name(), lowered(op, arguments));
  for (auto& made : op.schema().returns()) {
    if (made.type()->kind() != c10::TypeKind::ClassType) stack->push_back(arguments[0]);
    else stack->push_back(c10::intrusive_ptr<c10d::Work>(c10::make_intrusive<OnStream>()));
  }
}

// Whether the shape of a result depends on what the arguments hold.
inline bool depends_on_content(const c10::OperatorHandle& op, const std::vector<IValue>& arguments) {
  if (op.hasTag(at::Tag::data_dependent_output)) return true;
  if (!op.hasTag(at::Tag::dynamic_output_shape)) return false;
  auto& name = op.schema().name();
  if (name != "aten::index" && name != "aten::_unsafe_index") return true;
  // Indexing is tagged so for the sake of masks.
  for (auto& v : arguments[1].toListRef()) {
    if (!v.isTensor() || !v.toTensor().defined()) continue;
    auto type = v.toTensor().scalar_type();
    if (type == at::kBool || type == at::kByte) return true;
  }
  return false;
}

// Gives a call to the stream, and makes its results, yet without content. What they are is said by the operator's kernel for
// tensors without content, or, where it has none, by its CPU kernel on zeros.
// Returns false where it waited for the stream instead: the call is to be done now.
inline bool record(const c10::OperatorHandle& op, const std::vector<IValue>& arguments, torch::jit::Stack* stack) {
  auto& schema = op.schema();
  auto name = c10::toString(schema.operator_name());
  if (schema.name().rfind("c10d::", 0) == 0) return record_collective(op, arguments, stack), true;
  if (depends_on_content(op, arguments)) return wait_for_stream(name, " needs to know what its arguments hold"), false;
  bool meta = op.hasComputedKernelForDispatchKey(c10::DispatchKey::Meta);
  Call shapes(meta ? Call::Purpose::shapes_from_meta : Call::Purpose::shapes_from_zeros);
  bool effect = schema.overload_name() == "out";
  torch::jit::Stack inferred;
  for (size_t i = 0; i < arguments.size(); i++) {
    inferred.push_back(shapes.lower(arguments[i], may_grow(schema.arguments()[i])));
    effect |= writes(schema.arguments()[i]);
  }
  if (shapes.to_host) return wait_for_stream(name, " copies to the host and waits for that"), false;
  if (!shapes.on_host.empty() && !shapes.all_pinned) {
    return wait_for_stream(name, " reads a ", shapes.on_host, " of the host, which is not pinned"), false;
  }
  {
    at::AutoDispatchBelowAutograd guard;
    c10::optional<Drawing> undone;
    if (!meta) undone.emplace();
    op.redispatchBoxed(c10::DispatchKeySet(meta ? c10::DispatchKey::Meta : c10::DispatchKey::CPU), &inferred);
  }
  shapes.settle();
  std::vector<IValue> results;
  for (auto& v : inferred) results.push_back(shapes.raise(v));
  for (auto& t : shapes.made) effect |= t.defined();
  if (effect) {
    Recorded recorded = lowered(op, arguments);
    for (auto& t : shapes.made) recorded.results.push_back(t.defined() ? host_view(t) : Tensor());
    if (shapes.device) recorded.device = *shapes.device;
    push(name, std::move(recorded));
  }
  for (auto& v : results) stack->push_back(v);
  return true;
}

}  // namespace software_npu
