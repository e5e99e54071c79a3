// One call of an operator, lowered: its NPU tensors as CPU tensors; and its results, raised: as NPU tensors again.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include "current_stream.h"
#include "groups.h"
#include "views.h"

namespace software_npu {

class Call {
 public:
  enum class Purpose {
    run,               // on the memory of the tensors
    record,            // to run later, on the same memory
    shapes_from_meta,  // only to learn what it makes: from tensors without content
    shapes_from_zeros  // the same, where the operator has no kernel for those
  };

  explicit Call(Purpose purpose = Purpose::run) : purpose_(purpose) {}

  bool learns() const { return purpose_ == Purpose::shapes_from_meta || purpose_ == Purpose::shapes_from_zeros; }

  c10::optional<c10::Device> device;   // of its NPU tensors
  bool any_npu_tensor() const { return !views_.empty(); }
  std::string on_host;                 // the last tensor with dimensions that is not on the NPU
  bool all_pinned = true;              // and whether all such are pinned
  bool to_host = false;                // a result on the CPU is asked for
  std::vector<Tensor> made;            // of each tensor among the results: the new one; undefined where it is an argument's

  // `grows`: the operator may give the tensor another size.
  IValue lower(const IValue& v, bool grows) {
    if (v.isTensor()) return lower(v.toTensor(), grows);
    if (v.isDevice()) return lower(v.toDevice());
    if (v.isGenerator()) return v.toGenerator().device().type() == NPU ? IValue() : v;
    if (v.isTensorList()) {
      c10::List<Tensor> list;
      for (Tensor t : v.toTensorList()) list.push_back(lower(t, grows));
      return list;
    }
    if (v.isList()) return each(v, [&](const IValue& one) { return lower(one, grows); });
    if (is_group(v)) return on_host_views(v);
    return v;
  }

  // To be called before `raise`: not everything that is written to is returned.
  void settle() {
    for (auto& [npu, view] : growing_) reshaped(npu, view);
  }

  IValue raise(const IValue& v) {
    if (v.isTensor()) return raise(v.toTensor());
    if (v.isTensorList()) {
      c10::List<Tensor> list;
      for (Tensor t : v.toTensorList()) list.push_back(raise(t));
      return list;
    }
    if (v.isList()) return each(v, [&](const IValue& one) { return raise(one); });
    return v;
  }

 private:
  template <class Function>
  static IValue each(const IValue& v, Function function) {
    auto from = v.toList();
    c10::impl::GenericList list(from.elementType());
    for (size_t i = 0; i < from.size(); i++) list.push_back(function(from.get(i)));
    return list;
  }

  c10::Device there() const { return purpose_ == Purpose::shapes_from_meta ? at::kMeta : at::kCPU; }

  IValue lower(c10::Device asked) {
    if (asked.type() != NPU) {
      to_host |= asked.is_cpu();
      return asked;
    }
    device = asked.has_index() ? asked : current_device();
    return there();
  }

  Tensor lower(const Tensor& t, bool grows) {
    if (!on_npu(t)) return lower_host(t);
    if (!device) device = t.device();
    TORCH_CHECK(t.device() == *device, "software NPU: tensors of ", *device, " and of ", t.device(), " in one call");
    Tensor view = learns() ? stand_in(t, there()) : host_view(t, memory_of(t));
    if (grows) growing_.emplace_back(t, view);
    views_.emplace_back(t, view);
    return view;
  }

  Tensor lower_host(const Tensor& t) {
    if (!t.defined() || t.device().type() != c10::DeviceType::CPU) return t;
    if (t.dim() == 0) return purpose_ == Purpose::record ? t.clone() : t;  // a number, which is what it is now
    on_host = t.toString();
    all_pinned &= t.is_pinned();
    return learns() ? stand_in(t, there()) : purpose_ == Purpose::record ? borrowed(t) : t;
  }

  Tensor raise(const Tensor& c) {
    if (!c.defined() || c.device().type() != there().type() || to_host) return c;
    if (Tensor known = argument(c); known.defined()) {
      made.emplace_back();
      return known;
    }
    TORCH_CHECK(c.layout() == at::kStrided, "software NPU: a result is a ", c.layout(), " tensor; there are none on the NPU");
    auto options = at::TensorOptions().dtype(c.dtype()).device(device.value_or(current_device()));
    Tensor result = at::empty_strided(c.sizes(), c.strides(), options);
    // What is yet to be conjugated or negated stays so.
    result._set_conj(c.is_conj());
    result._set_neg(c.is_neg());
    if (c.numel() && purpose_ == Purpose::run) host_view(result).copy_(c);
    made.push_back(result);
    return result;
  }

  // The argument that a result is, or is a view of; undefined if it is neither.
  Tensor argument(const Tensor& c) {
    for (auto& [npu, view] : views_)
      if (c.is_same(view)) return reshaped(npu, c);
    if (!c.has_storage() || !c.numel()) return {};
    for (auto& [npu, view] : views_) {
      if (view.storage().unsafeGetStorageImpl() != c.storage().unsafeGetStorageImpl() || view.dtype() != c.dtype()) continue;
      return npu.as_strided(c.sizes(), c.strides(), npu.storage_offset() + c.storage_offset() - view.storage_offset());
    }
    return {};
  }

  // An argument that the operator may have turned (transpose_), seen otherwise (as_strided_) or given another size (an `out`).
  Tensor reshaped(const Tensor& npu, const Tensor& c) {
    auto* impl = npu.unsafeGetTensorImpl();
    int64_t offset = npu.storage_offset() + (learns() ? c.storage_offset() : c.storage_offset() - npu.storage_offset());
    if (npu.sizes().equals(c.sizes()) && npu.strides().equals(c.strides()) && npu.storage_offset() == offset) return npu;
    bool moved = purpose_ == Purpose::run && c.numel() && c.storage().data() != npu.storage().data();
    if (!moved && at::detail::computeStorageNbytes(c.sizes(), c.strides(), c.itemsize(), offset) <= npu.storage().nbytes()) {
      impl->set_sizes_and_strides(c.sizes(), c.strides(), offset);
      return npu;
    }
    // As much as it takes, with what its strides leave out.
    npu.resize_({int64_t(at::detail::computeStorageNbytes(c.sizes(), c.strides(), c.itemsize()) / c.itemsize())});
    impl->set_sizes_and_strides(c.sizes(), c.strides(), npu.storage_offset());
    if (!moved) return npu;
    // Torch_npu copies what was there before, by its queue.
    current_stream();
    host_view(npu).copy_(c);
    return npu;
  }

  // One for all tensors that share it, so that an operator sees what overlaps.
  c10::Storage memory_of(const Tensor& t) {
    for (auto& [npu, view] : views_)
      if (npu.storage().unsafeGetStorageImpl() == t.storage().unsafeGetStorageImpl()) return view.storage();
    return host_memory(t, purpose_ == Purpose::run);
  }

  Purpose purpose_;
  std::vector<std::pair<Tensor, Tensor>> views_;  // an NPU tensor, and what stands for it
  std::vector<std::pair<Tensor, Tensor>> growing_;
};

// A call that keeps no count of what is its own: the arguments of an operator from the stack, and back.
inline std::vector<IValue> taken(torch::jit::Stack* stack, size_t n) {
  std::vector<IValue> found(stack->end() - n, stack->end());
  stack->resize(stack->size() - n);
  return found;
}

inline bool writes(const c10::Argument& a) { return a.alias_info() && a.alias_info()->isWrite(); }
inline bool may_grow(const c10::Argument& a) { return writes(a) && a.is_out(); }

}  // namespace software_npu
