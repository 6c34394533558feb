// The readers of requests for test_predict_request.py. Standard input: for each message a letter for its type (p, m or
// h), its size as 4 bytes, and itself. Standard output: a line for each, JSON with texts in hexadecimal, or `refused`.

#include <cstdint>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serving/engine/native/predict_request.h"

namespace {

using dpsr::serving::ModelSpec;

std::string Hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex = "\"";
  for (const char byte : bytes) {
    hex += kDigits[static_cast<uint8_t>(byte) >> 4];
    hex += kDigits[static_cast<uint8_t>(byte) & 15];
  }
  return hex + '"';
}

std::string Hex(const std::optional<std::string_view>& bytes) { return bytes ? Hex(*bytes) : "null"; }

template <typename Values, typename Write>
std::string List(const Values& values, const Write& write) {
  std::string list;
  for (const auto& value : values) list += (list.empty() ? "" : ",") + write(value);
  return "[" + list + "]";
}

std::string Texts(const std::vector<std::string_view>& texts) {
  return List(texts, [](std::string_view text) { return Hex(text); });
}

std::string Spec(const ModelSpec& spec) {
  return "[" + Hex(spec.name) + "," + (spec.version ? std::to_string(*spec.version) : "null") + "," +
         Hex(spec.version_label) + "," + Hex(spec.signature_name) + "]";
}

std::string Input(const dpsr::serving::Input& input) {
  const dpsr::serving::InputTensor& tensor = input.tensor;
  return "[" + Hex(input.alias) + "," + std::to_string(tensor.dtype) + "," +
         List(tensor.dims, [](int64_t size) { return std::to_string(size); }) + "," + Texts(tensor.strings) + "," +
         Hex(tensor.numbers) + "]";
}

std::string Read(char type, std::string_view message) {
  if (type == 'p') {
    const auto request = dpsr::serving::ReadPredictRequest(message);
    if (!request) return "refused";
    return "[" + Spec(request->model_spec) + "," + List(request->inputs, Input) + "," + Texts(request->output_filter) +
           "]";
  }
  if (type == 'm') {
    const auto request = dpsr::serving::ReadMetadataRequest(message);
    if (!request) return "refused";
    return "[" + Spec(request->model_spec) + "," + Texts(request->metadata_fields) + "]";
  }
  const auto service = dpsr::serving::ReadHealthCheckRequest(message);
  return service ? Hex(*service) : "refused";
}

}  // namespace

int main() {
  char type;
  uint32_t size;
  std::string message;
  while (std::cin.get(type)) {
    if (!std::cin.read(reinterpret_cast<char*>(&size), sizeof(size))) return 1;
    message.resize(size);
    if (!std::cin.read(message.data(), size)) return 1;
    std::cout << Read(type, message) << '\n';
  }
  return std::cout.flush() ? 0 : 1;
}
