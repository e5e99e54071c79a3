// What Python calls (ascend_overlay/npu/software/native_calls.py), by ctypes, so that no header of Python is needed.
#include <torch/library.h>

#include <memory>
#include <sstream>

#include "operators.h"

namespace software_npu {
namespace {

// Registrations last as long as the process does.
torch::Library& library(const std::string& space, c10::DispatchKey key) {
  static auto* all = new std::vector<std::unique_ptr<torch::Library>>;
  all->push_back(std::make_unique<torch::Library>(torch::Library::IMPL, space, key, __FILE__, __LINE__));
  return *all->back();
}

template <class Function>
const char* guarded(Function function) {
  static thread_local std::string text;
  try {
    function();
    return nullptr;
  } catch (const std::exception& error) {
    text = error.what();
    return text.c_str();
  }
}

template <class Function>
void each(const char* names, Function function) {
  std::istringstream lines(names);
  for (std::string name; std::getline(lines, name);) function(name);
}

}  // namespace
}  // namespace software_npu

using namespace software_npu;

extern "C" {

// Each returns NULL, or what went wrong. `names` are lines.
const char* software_npu_install(const char* space, const char* names) {
  return guarded([&] {
    auto& lib = library(space, c10::DispatchKey::PrivateUse1);
    each(names, [&](const std::string& name) { lib.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&by_cpu>()); });
  });
}

const char* software_npu_install_parts(const char* names) {
  return guarded([&] {
    auto& lib = library("aten", c10::DispatchKey::AutogradPrivateUse1);
    each(names, [&](const std::string& name) { lib.impl(name.c_str(), torch::CppFunction::makeFromBoxedFunction<&by_parts>()); });
  });
}

const char* software_npu_install_copies() {
  return guarded([] {
    auto& lib = library("aten", c10::DispatchKey::PrivateUse1);
    lib.impl("_to_copy", torch::CppFunction::makeFromBoxedFunction<&by_composition>());
    lib.impl("copy_", &copy_);
    lib.impl("_copy_from", &copy_from);
  });
}

void software_npu_count(int on) { Counts::all().on = on; }

const char* software_npu_counts() {
  static thread_local std::string text;
  text = Counts::all().text();
  return text.c_str();
}
}
