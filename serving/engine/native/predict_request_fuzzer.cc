// libFuzzer over the readers of requests: whatever the bytes, the laws of what is read hold.

#include <cstdlib>
#include <string_view>

#include "serving/engine/native/random_requests.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  bool accepted;
  const std::string_view message(reinterpret_cast<const char*>(bytes), size);
  if (!dpsr::serving::ReaderLaws(message).Broken(&accepted).empty()) std::abort();
  return 0;
}
