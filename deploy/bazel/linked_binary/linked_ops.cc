// Prints the dpsr ops that are linked into this binary; fails where there is none.

#include <cstdio>
#include <string>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"

int main() {
  std::vector<tensorflow::OpDef> ops;
  tensorflow::OpRegistry::Global()->GetRegisteredOps(&ops);
  int found = 0;
  for (const tensorflow::OpDef& op : ops) {
    if (op.name().rfind("Dpsr", 0) != 0) continue;
    const bool has_kernel = tensorflow::GetRegisteredKernelsForOp(op.name()).kernel_size() > 0;
    std::printf("%s%s\n", op.name().c_str(), has_kernel ? "" : " (without a kernel)");
    if (!has_kernel) return 1;
    ++found;
  }
  return found == 0;
}
