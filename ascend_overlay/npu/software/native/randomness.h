// Random numbers: an operator draws from a CPU generator whose seed is made of seed and offset of the NPU's, which then moves on.
// So seeds, states that are saved and restored, and replays of graphs behave as with the NPU's own counter.
#pragma once

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <mutex>

#include "views.h"

namespace software_npu {

// While it exists, the CPU's default generator draws what the NPU's would; afterwards it is as before.
class Drawing {
 public:
  // `npu` undefined: the default generator of `device`.
  Drawing(at::Generator npu, c10::Device device) : guard_(turn()), cpu_(at::detail::getDefaultCPUGenerator()), before_(cpu_.get_state()) {
    if (!npu.defined()) npu = at::globalContext().defaultGenerator(device);
    uint64_t offset = npu.get_offset();
    cpu_.set_current_seed(mixed(npu.current_seed(), offset));
    npu.set_offset(offset + STEP);
  }
  // To learn a shape: what is drawn does not count.
  Drawing() : guard_(turn()), cpu_(at::detail::getDefaultCPUGenerator()), before_(cpu_.get_state()) {}
  ~Drawing() { cpu_.set_state(before_); }

 private:
  static constexpr uint64_t STEP = 4;  // offsets are multiples of four

  static std::recursive_mutex& turn() {
    static std::recursive_mutex one;
    return one;
  }

  static uint64_t mixed(uint64_t seed, uint64_t offset) {
    if (!offset) return seed;  // the first draw after a seed is that of the CPU
    uint64_t x = seed + offset * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
  }

  std::lock_guard<std::recursive_mutex> guard_;
  at::Generator cpu_;
  Tensor before_;
};

inline bool draws(const c10::OperatorHandle& op) { return op.hasTag(at::Tag::nondeterministic_seeded); }

// The generator among the arguments; undefined where there is none.
inline at::Generator generator_of(const std::vector<IValue>& arguments) {
  for (auto& a : arguments)
    if (a.isGenerator()) return a.toGenerator();
  return {};
}

}  // namespace software_npu
