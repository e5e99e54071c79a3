// NPU memory is memory of this machine, so a tensor of the NPU can be looked at as one of the CPU, without a copy.
#pragma once

#include <ATen/ATen.h>

namespace software_npu {

using at::Tensor;
using c10::IValue;

constexpr auto NPU = c10::DeviceType::PrivateUse1;

inline bool on_npu(const Tensor& t) { return t.defined() && t.device().type() == NPU; }

// The same memory as a CPU tensor. It keeps nothing alive: whoever may outlive `t` must not read it.
inline Tensor host_view(const Tensor& t) {
  void* data = t.storage().nbytes() ? t.data_ptr() : nullptr;
  Tensor view = at::for_blob(data, t.sizes())
                    .strides(t.strides())
                    .options(at::TensorOptions().dtype(t.dtype()).device(at::kCPU))
                    .make_tensor();
  if (t.is_conj()) view._set_conj(true);
  if (t.is_neg()) view._set_neg(true);
  return view;
}

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
