#include "serving/engine/native/predict_request.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "serving/engine/native/wire.h"

namespace dpsr::serving {
namespace {

// Bounds of what is still usual; they also bound what a hostile message costs.
constexpr size_t kMostInputs = 64, kMostDims = 32;
constexpr int64_t kMostElements = int64_t{1} << 40;

constexpr uint8_t Varint(int field) { return Tag(field, WireType::kVarint); }
constexpr uint8_t Bytes(int field) { return Tag(field, WireType::kBytes); }

// tensorflow::DataType.
enum : int { kFloat = 1, kDouble = 2, kInt32 = 3, kString = 7, kInt64 = 9, kBool = 10 };

// Calls read(tag, &reader) at every field, which reads the rest of it; false as soon as that is false.
template <typename ReadField>
bool ForEachField(std::string_view message, const ReadField& read) {
  WireReader reader(message);
  while (!reader.done()) {
    uint8_t tag = 0;
    if (!reader.ReadTag(&tag) || !read(tag, &reader)) return false;
  }
  return true;
}

// A message that may stand once: several are merged, which is left to others.
bool ReadOnce(WireReader* reader, bool* seen, std::string_view* message) {
  return !std::exchange(*seen, true) && reader->ReadBytes(message);
}

bool ReadTextInto(WireReader* reader, std::vector<std::string_view>* texts) {
  std::string_view text;
  if (!reader->ReadText(&text)) return false;
  texts->push_back(text);
  return true;
}

// google.protobuf.Int64Value.
bool ReadInt64Value(std::string_view message, int64_t* value) {
  *value = 0;
  return ForEachField(message,
                      [&](uint8_t tag, WireReader* reader) { return tag == Varint(1) && reader->ReadInt64(value); });
}

bool ReadModelSpec(std::string_view message, ModelSpec* spec) {
  const bool read = ForEachField(message, [&](uint8_t tag, WireReader* reader) {
    std::string_view value;
    switch (tag) {
      case Bytes(1):
        return reader->ReadText(&spec->name);
      case Bytes(2):
        if (spec->version || !reader->ReadBytes(&value)) return false;
        return ReadInt64Value(value, &spec->version.emplace());
      case Bytes(3):
        return reader->ReadText(&spec->signature_name);
      case Bytes(4):
        return reader->ReadText(&spec->version_label.emplace());
      default:
        return false;
    }
  });
  return read && !(spec->version && spec->version_label);  // of a oneof the last one counts
}

bool ReadDim(std::string_view message, int64_t* size) {
  *size = 0;
  return ForEachField(message, [&](uint8_t tag, WireReader* reader) {
    std::string_view name;
    if (tag == Varint(1)) return reader->ReadInt64(size);
    return tag == Bytes(2) && reader->ReadText(&name);
  });
}

// tensorflow.TensorShapeProto.
bool ReadShape(std::string_view message, InputTensor* tensor) {
  bool unknown_rank = false;
  int64_t extent = 1;  // product of the sizes but 0, which libraries let overflow no more than the product itself
  tensor->elements = 1;
  const bool read = ForEachField(message, [&](uint8_t tag, WireReader* reader) {
    if (tag == Varint(3)) return reader->ReadBool(&unknown_rank);
    std::string_view dim;
    int64_t size = 0;
    if (tag != Bytes(2) || !reader->ReadBytes(&dim) || !ReadDim(dim, &size)) return false;
    if (size < 0 || tensor->dims.size() == kMostDims) return false;
    if (size > 0) {
      if (size > kMostElements / extent) return false;
      extent *= size;
    }
    tensor->elements *= static_cast<size_t>(size);
    tensor->dims.push_back(size);
    return true;
  });
  return read && !unknown_rank;
}

// tensorflow.TensorProto.
class TensorReader {
 public:
  explicit TensorReader(InputTensor* tensor) : tensor_(tensor) {}

  bool Read(std::string_view message) {
    tensor_->elements = 1;
    return ForEachField(message, [this](uint8_t tag, WireReader* reader) { return ReadField(tag, reader); }) &&
           Complete();
  }

 private:
  bool ReadField(uint8_t tag, WireReader* reader) {
    std::string_view shape;
    int32_t version = 0;
    switch (tag) {
      case Varint(1):
        return reader->ReadInt32(&tensor_->dtype);
      case Bytes(2):
        return ReadOnce(reader, &has_shape_, &shape) && ReadShape(shape, tensor_);
      case Varint(3):
        return reader->ReadInt32(&version) && version == 0;
      case Bytes(4):
        return reader->ReadBytes(&content_);
      case Bytes(5):
      case Tag(5, WireType::kFixed32):
        return ReadNumbers<float>(kFloat, reader, tag == Bytes(5), &WireReader::ReadFixed<float>);
      case Bytes(6):
      case Tag(6, WireType::kFixed64):
        return ReadNumbers<double>(kDouble, reader, tag == Bytes(6), &WireReader::ReadFixed<double>);
      case Bytes(7):
      case Varint(7):
        return ReadNumbers<int32_t>(kInt32, reader, tag == Bytes(7), &WireReader::ReadInt32);
      case Bytes(8):
        return ReadString(reader);
      case Bytes(10):
      case Varint(10):
        return ReadNumbers<int64_t>(kInt64, reader, tag == Bytes(10), &WireReader::ReadInt64);
      case Bytes(11):
      case Varint(11):
        return ReadNumbers<bool>(kBool, reader, tag == Bytes(11), &WireReader::ReadBool);
      default:
        return false;
    }
  }

  // Whether the values of this and of all fields before belong to one type.
  bool HoldsValuesOf(int dtype) {
    if (values_dtype_ == 0) values_dtype_ = dtype;
    return values_dtype_ == dtype;
  }

  // A value of a field of numbers, or a pack of them.
  template <typename T>
  bool ReadNumbers(int dtype, WireReader* reader, bool packed, bool (WireReader::*read)(T*)) {
    if (!HoldsValuesOf(dtype)) return false;
    std::vector<char>& values = tensor_->converted;
    std::string_view pack;
    if (packed && !reader->ReadBytes(&pack)) return false;
    if constexpr (std::is_floating_point_v<T>) {
      if (packed) {
        values.insert(values.end(), pack.begin(), pack.end());
        return pack.size() % sizeof(T) == 0;
      }
    }
    WireReader unpacked(pack);
    WireReader* const from = packed ? &unpacked : reader;
    // A number takes a byte at least: a false shape reserves little more than the message could fill.
    if (values.empty()) values.reserve(std::min(tensor_->elements, 1 + from->left()) * sizeof(T));
    while (!packed || !from->done()) {
      T value{};
      if (!(from->*read)(&value)) return false;
      const auto* bytes = reinterpret_cast<const char*>(&value);
      values.insert(values.end(), bytes, bytes + sizeof(T));
      if (!packed) break;
    }
    return true;
  }

  bool ReadString(WireReader* reader) {
    if (!HoldsValuesOf(kString)) return false;
    std::vector<std::string_view>& strings = tensor_->strings;
    // A string takes two bytes at least: a false shape reserves nothing that the message could not fill.
    if (strings.empty()) strings.reserve(std::min(tensor_->elements, 1 + reader->left() / 2));
    return reader->ReadBytes(&strings.emplace_back());
  }

  // Whether there is a value for every element, in one place.
  bool Complete() {
    const size_t elements = tensor_->elements;
    if (values_dtype_ != 0 && (values_dtype_ != tensor_->dtype || !content_.empty())) return false;
    if (tensor_->dtype == kString) return content_.empty() && tensor_->strings.size() == elements;
    const size_t width = Width(tensor_->dtype);
    if (width == 0) return false;
    tensor_->numbers =
        content_.empty() ? std::string_view(tensor_->converted.data(), tensor_->converted.size()) : content_;
    if (tensor_->numbers.size() != elements * width) return false;
    return tensor_->dtype != kBool || std::all_of(content_.begin(), content_.end(), [](char byte) {
             return static_cast<uint8_t>(byte) <= 1;  // others are no bool in C++
           });
  }

  // Bytes of a number; 0 for types that are left to others.
  static size_t Width(int dtype) {
    switch (dtype) {
      case kFloat:
      case kInt32:
        return 4;
      case kDouble:
      case kInt64:
        return 8;
      case kBool:
        return 1;
      default:
        return 0;
    }
  }

  InputTensor* const tensor_;
  bool has_shape_ = false;
  std::string_view content_;
  int values_dtype_ = 0;  // of the fields of values so far
};

// An entry of PredictRequest.inputs.
bool ReadInput(std::string_view message, Input* input) {
  bool has_tensor = false;
  std::string_view tensor;
  return ForEachField(message,
                      [&](uint8_t tag, WireReader* reader) {
                        if (tag == Bytes(1)) return reader->ReadText(&input->alias);
                        return tag == Bytes(2) && ReadOnce(reader, &has_tensor, &tensor);
                      }) &&
         TensorReader(&input->tensor).Read(tensor);
}

bool ReadNewInput(std::string_view message, std::vector<Input>* inputs) {
  if (inputs->size() == kMostInputs || !ReadInput(message, &inputs->emplace_back())) return false;
  const std::string_view alias = inputs->back().alias;
  return std::none_of(inputs->begin(), inputs->end() - 1, [&](const Input& input) { return input.alias == alias; });
}

}  // namespace

std::optional<PredictRequest> ReadPredictRequest(std::string_view message) {
  PredictRequest request;
  bool has_spec = false;
  const bool read = ForEachField(message, [&](uint8_t tag, WireReader* reader) {
    std::string_view part;
    switch (tag) {
      case Bytes(1):
        return ReadOnce(reader, &has_spec, &part) && ReadModelSpec(part, &request.model_spec);
      case Bytes(2):
        return reader->ReadBytes(&part) && ReadNewInput(part, &request.inputs);
      case Bytes(3):
        return ReadTextInto(reader, &request.output_filter);
      default:
        return false;
    }
  });
  if (!read || !has_spec) return std::nullopt;
  return request;
}

std::optional<MetadataRequest> ReadMetadataRequest(std::string_view message) {
  MetadataRequest request;
  bool has_spec = false;
  const bool read = ForEachField(message, [&](uint8_t tag, WireReader* reader) {
    std::string_view part;
    if (tag == Bytes(1)) return ReadOnce(reader, &has_spec, &part) && ReadModelSpec(part, &request.model_spec);
    return tag == Bytes(2) && ReadTextInto(reader, &request.metadata_fields);
  });
  if (!read || !has_spec) return std::nullopt;
  return request;
}

std::optional<std::string_view> ReadHealthCheckRequest(std::string_view message) {
  std::string_view service;
  const bool read = ForEachField(
      message, [&](uint8_t tag, WireReader* reader) { return tag == Bytes(1) && reader->ReadText(&service); });
  if (!read) return std::nullopt;
  return service;
}

}  // namespace dpsr::serving
