// Groups of processes. A group has a backend for a kind of device; that of the NPU, hccl, is gloo here, which sees NPU tensors as
// CPU tensors. The group that the user has keeps it for the NPU alone, so that a CPU tensor is refused as on a card.
#pragma once

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "views.h"

namespace software_npu {

inline bool is_group(const IValue& v) {
  return v.isObject() && v.toObjectRef().name() == "__torch__.torch.classes.c10d.ProcessGroup";
}

// The group for the CPU tensors that stand for the NPU's. An error of c10d where the user's has no backend for the NPU.
inline IValue on_host_views(const IValue& v) {
  auto group = v.toCustomClass<c10d::ProcessGroup>();
  auto backend = group->getBackend(NPU);
  auto other = c10::make_intrusive<c10d::ProcessGroup>(group->getRank(), group->getSize());
  other->setBackend(at::kCPU, c10d::ProcessGroup::BackendType::GLOO, backend);
  return IValue(other);
}

}  // namespace software_npu
