// What was called, where somebody wants to know: operators with the dtypes of their tensors, and copies that the host waits for.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <sstream>

#include "views.h"

namespace software_npu {

class Counts {
 public:
  static Counts& all() {
    static Counts one;
    return one;
  }

  std::atomic<bool> on{false};

  void call(const c10::FunctionSchema& schema, const std::vector<IValue>& arguments) {
    std::string key = c10::toString(schema.operator_name()) + "\t";
    for (auto& a : arguments) {
      if (!a.isTensor() || !a.toTensor().defined()) continue;
      if (key.back() != '\t') key += ",";
      key += c10::toString(a.toTensor().scalar_type());
      if (!on_npu(a.toTensor())) key += "@cpu";
      if (!a.toTensor().numel()) key += "@empty";
    }
    add(key);
  }

  void add(const std::string& key) {
    std::lock_guard<std::mutex> guard(lock_);
    counts_[key]++;
  }

  // Lines of operator, dtypes and number, with tabs between.
  std::string text() {
    std::lock_guard<std::mutex> guard(lock_);
    std::ostringstream out;
    for (auto& [key, n] : counts_) out << key << "\t" << n << "\n";
    return out.str();
  }

 private:
  std::mutex lock_;
  std::map<std::string, int64_t> counts_;
};

}  // namespace software_npu
