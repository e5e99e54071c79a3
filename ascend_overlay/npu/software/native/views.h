// NPU memory is memory of this machine, so a tensor of the NPU can be looked at as one of the CPU, without a copy.
#pragma once

#include <ATen/ATen.h>

namespace software_npu {

using at::Tensor;
using c10::IValue;

constexpr auto NPU = c10::DeviceType::PrivateUse1;

inline bool on_npu(const Tensor& t) { return t.defined() && t.device().type() == NPU; }

// All memory that `t` is a part of, as a CPU tensor's. It keeps nothing alive: whoever may outlive `t` must not read it.
// `grows`: an operator may ask for more, which is then memory of the host's, in another place.
inline c10::Storage host_memory(const Tensor& t, bool grows = false) {
  auto& all = t.storage();
  void* data = all.nbytes() ? all.mutable_data() : nullptr;
  return c10::Storage(c10::Storage::use_byte_size_t(), all.nbytes(), at::DataPtr(data, c10::Device(at::kCPU)),
                      grows ? c10::GetAllocator(at::kCPU) : nullptr, grows);
}

// The same memory as a CPU tensor, a part of `memory` as `t` is of its own.
inline Tensor host_view(const Tensor& t, c10::Storage memory) {
  at::AutoDispatchBelowADInplaceOrView guard;
  Tensor view = at::detail::make_tensor<c10::TensorImpl>(std::move(memory), c10::DispatchKeySet(c10::DispatchKey::CPU), t.dtype());
  view.unsafeGetTensorImpl()->set_sizes_and_strides(t.sizes(), t.strides(), t.storage_offset());
  if (t.is_conj()) view._set_conj(true);
  if (t.is_neg()) view._set_neg(true);
  return view;
}

inline Tensor host_view(const Tensor& t) { return host_view(t, host_memory(t)); }

inline Tensor plain(const Tensor& t) { return on_npu(t) ? host_view(t) : t; }

// Memory of the host by its address, as a captured copy knows it.
inline Tensor borrowed(const Tensor& t) { return t.defined() && t.has_storage() ? host_view(t) : t; }

// A tensor of the same shape without its content: on Meta, or zeros.
inline Tensor stand_in(const Tensor& t, c10::Device device) {
  Tensor made = at::empty_strided(t.sizes(), t.strides(), at::TensorOptions().dtype(t.dtype()).device(device));
  return device.is_cpu() && made.numel() ? made.zero_() : made;
}

inline c10::Device current_device() {
  return c10::impl::getDeviceGuardImpl(NPU)->getDevice();
}

}  // namespace software_npu
