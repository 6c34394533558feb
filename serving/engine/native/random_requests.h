// Requests for the tests and the fuzzer of the readers: drawn, mutated, and the laws of what is read from any bytes.

#ifndef DPSR_SERVING_ENGINE_NATIVE_RANDOM_REQUESTS_H_
#define DPSR_SERVING_ENGINE_NATIVE_RANDOM_REQUESTS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/engine/native/predict_request.h"
#include "serving/engine/native/wire.h"

namespace dpsr::serving {

inline std::string BytesField(int field, std::string_view bytes) {
  std::string written;
  AppendBytes(Tag(field, WireType::kBytes), bytes, &written);
  return written;
}

inline std::string VarintField(int field, uint64_t value) {
  std::string written(1, static_cast<char>(Tag(field, WireType::kVarint)));
  AppendVarint(value, &written);
  return written;
}

// Bytes of a number of the accepted types.
inline size_t NumberWidth(int dtype) { return dtype == 10 ? 1 : dtype == 2 || dtype == 9 ? 8 : 4; }

// Draws PredictRequest messages.
class RequestDrawer {
 public:
  explicit RequestDrawer(uint32_t seed) : random_(seed) {}

  // A message in one of the plain forms.
  std::string DrawRequest() {
    std::vector<std::string> fields{BytesField(1, DrawSpec())};
    static const char* const kAliases[] = {"query", "", "\xD0\xB7\xD0\xB0\xD0\xBF", "k"};
    for (int input = Below(4); input > 0; --input) {
      std::vector<std::string> entry{BytesField(1, kAliases[input]), BytesField(2, DrawTensor())};
      fields.push_back(BytesField(2, Shuffled(std::move(entry))));
    }
    for (int output = Below(3); output > 0; --output) fields.push_back(BytesField(3, "item_id"));
    return Shuffled(std::move(fields));
  }

  // Changes some bytes, or loses, repeats, moves or takes over a part of the other message.
  std::string Mutate(std::string message, const std::string& other) {
    for (int change = 1 + Below(3); change > 0; --change) {
      if (message.empty()) message = other;
      const size_t place = Below(message.size()), length = Below(std::min<size_t>(message.size() - place, 32) + 1);
      switch (Below(7)) {
        case 0:
          message[place] = static_cast<char>(message[place] ^ 1 << Below(8));
          break;
        case 1:
          message[place] = static_cast<char>(Below(256));
          break;
        case 2:  // a length or a number by one
          message[place] = static_cast<char>(message[place] + (Below(2) == 0 ? 1 : -1));
          break;
        case 3:
          message.resize(place);
          break;
        case 4:
          message.erase(place, length);
          break;
        case 5:
          message.insert(Below(message.size() + 1), message.substr(place, length));
          break;
        default:
          message = message.substr(0, place) + other.substr(Below(other.size() + 1));
      }
    }
    return message;
  }

 private:
  size_t Below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }

  std::string Shuffled(std::vector<std::string> fields) {
    if (Below(2) == 0) std::shuffle(fields.begin(), fields.end(), random_);
    std::string message;
    for (const std::string& field : fields) message += field;
    return message;
  }

  std::string DrawSpec() {
    std::vector<std::string> fields{BytesField(1, "shop"), BytesField(3, "serving_default")};
    if (Below(3) == 0) fields.push_back(BytesField(2, Below(2) == 0 ? "" : VarintField(1, random_())));
    if (fields.size() == 2 && Below(2) == 0) fields.push_back(BytesField(4, "stable"));
    return Shuffled(std::move(fields));
  }

  std::string DrawTensor() {
    static constexpr int kDtypes[] = {1, 2, 3, 7, 9, 10};
    static constexpr int kFields[] = {5, 6, 7, 8, 10, 11};
    const size_t type = Below(6);
    std::string shape;
    size_t elements = 1;
    for (int dim = Below(3); dim > 0; --dim) {
      const size_t size = Below(5);
      shape += BytesField(2, size == 0 ? "" : VarintField(1, size));
      elements *= size;
    }
    std::vector<std::string> fields{VarintField(1, kDtypes[type])};
    if (!shape.empty() || Below(2) == 0) fields.push_back(BytesField(2, shape));
    const std::string values = DrawValues(kDtypes[type], kFields[type], elements);
    if (!values.empty()) fields.push_back(values);
    return Shuffled(std::move(fields));
  }

  std::string DrawValues(int dtype, int field, size_t elements) {
    std::string content, pack, unpacked;
    const bool floats = dtype <= 2;
    const uint8_t tag = Tag(field, !floats ? WireType::kVarint : dtype == 1 ? WireType::kFixed32 : WireType::kFixed64);
    for (size_t element = 0; element < elements; ++element) {
      if (dtype == 7) {
        unpacked += BytesField(field, std::string(Below(20), static_cast<char>(Below(256))));
        continue;
      }
      int64_t value = dtype == 10 ? Below(2) : static_cast<int32_t>(random_());
      std::string number(NumberWidth(dtype), '\0');
      std::memcpy(number.data(), &value, number.size());
      content += number;
      if (!floats) number.clear(), AppendVarint(static_cast<uint64_t>(value), &number);
      pack += number;
      unpacked += static_cast<char>(tag) + number;
    }
    if (dtype == 7) return unpacked;
    const size_t form = Below(3);
    return form == 0 ? BytesField(4, content) : form == 1 ? BytesField(field, pack) : unpacked;
  }

  std::mt19937 random_;
};

// The message that a writer makes of what was read.
inline std::string Write(const PredictRequest& request) {
  const ModelSpec& spec = request.model_spec;
  std::string fields = BytesField(1, spec.name) + BytesField(3, spec.signature_name);
  if (spec.version) fields += BytesField(2, VarintField(1, static_cast<uint64_t>(*spec.version)));
  if (spec.version_label) fields += BytesField(4, *spec.version_label);
  std::string message = BytesField(1, fields);
  for (const Input& input : request.inputs) {
    const InputTensor& tensor = input.tensor;
    std::string shape, values;
    for (const int64_t size : tensor.dims) shape += BytesField(2, VarintField(1, static_cast<uint64_t>(size)));
    for (const std::string_view text : tensor.strings) values += BytesField(8, text);
    if (!tensor.numbers.empty()) values += BytesField(4, tensor.numbers);
    const std::string written = VarintField(1, static_cast<uint64_t>(tensor.dtype)) + BytesField(2, shape) + values;
    message += BytesField(2, BytesField(1, input.alias) + BytesField(2, written));
  }
  for (const std::string_view alias : request.output_filter) message += BytesField(3, alias);
  return message;
}

// What a reader breaks of its contract: a description, or nothing. `accepted` tells whether it read a PredictRequest.
class ReaderLaws {
 public:
  explicit ReaderLaws(std::string_view message) : message_(message) {}

  std::string Broken(bool* accepted) {
    if (const auto service = ReadHealthCheckRequest(message_)) Text(*service);
    if (const auto request = ReadMetadataRequest(message_)) {
      Spec(request->model_spec);
      for (const std::string_view field : request->metadata_fields) Text(field);
    }
    std::optional<PredictRequest> request = ReadPredictRequest(message_);
    *accepted = request.has_value();
    if (request) Predict(*std::move(request));
    return broken_;
  }

 private:
  void Require(bool holds, const char* law) {
    if (!holds && broken_.empty()) broken_ = law;
  }

  bool IsInside(std::string_view view) const {
    return view.empty() ||
           (view.data() >= message_.data() && view.data() + view.size() <= message_.data() + message_.size());
  }

  void Text(std::string_view text) {
    Require(IsInside(text), "a text lies in the message");
    Require(IsWellFormed(text), "a text is UTF-8");
  }

  void Spec(const ModelSpec& spec) {
    for (const std::string_view text : {spec.name, spec.version_label.value_or(""), spec.signature_name}) Text(text);
    Require(!spec.version || !spec.version_label, "a version is named in one way");
  }

  void Tensor(const InputTensor& tensor) {
    const size_t count = tensor.elements;
    uint64_t product = 1;
    for (const int64_t size : tensor.dims) product *= static_cast<uint64_t>(size);
    Require(count == product, "elements are the product of the dimensions");
    Require(count <= message_.size(), "each element has its value in the message");
    if (tensor.dtype == 7) {
      Require(tensor.strings.size() == count && tensor.numbers.empty(), "a string for every element");
      for (const std::string_view text : tensor.strings) Require(IsInside(text), "a string lies in the message");
      return;
    }
    static constexpr int kNumbers[] = {1, 2, 3, 9, 10};
    Require(std::find(std::begin(kNumbers), std::end(kNumbers), tensor.dtype) != std::end(kNumbers),
            "a type is one of six");
    Require(tensor.strings.empty() && tensor.numbers.size() == count * NumberWidth(tensor.dtype),
            "a number for every element");
    Require(tensor.numbers.data() == tensor.converted.data() || IsInside(tensor.numbers), "numbers have one place");
    if (tensor.dtype == 10) {
      Require(std::count_if(tensor.numbers.begin(), tensor.numbers.end(), [](char bit) { return bit >> 1 != 0; }) == 0,
              "a bool is 0 or 1");
    }
  }

  void Predict(PredictRequest request) {
    Spec(request.model_spec);
    for (const std::string_view alias : request.output_filter) Text(alias);
    for (const Input& input : request.inputs) {
      Text(input.alias);
      Tensor(input.tensor);
      Require(std::count_if(request.inputs.begin(), request.inputs.end(),
                            [&](const Input& other) { return other.alias == input.alias; }) == 1,
              "no alias stands twice");
    }
    const std::string written = Write(request);
    std::optional<PredictRequest> again = ReadPredictRequest(written);
    Require(again && Write(*again) == written, "what is written of a request is read as the same");
    const PredictRequest moved = std::move(request);
    Require(Write(moved) == written, "a request may be moved");
  }

  const std::string_view message_;
  std::string broken_;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_RANDOM_REQUESTS_H_
