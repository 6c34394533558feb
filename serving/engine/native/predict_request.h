// PredictRequest messages read in place: no message objects, no copies of texts.

#ifndef DPSR_SERVING_ENGINE_NATIVE_PREDICT_REQUEST_H_
#define DPSR_SERVING_ENGINE_NATIVE_PREDICT_REQUEST_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace dpsr::serving {

// tensorflow.serving.ModelSpec. Views point into the message.
struct ModelSpec {
  std::string_view name;
  std::optional<int64_t> version;
  std::optional<std::string_view> version_label;
  std::string_view signature_name;
};

// A tensor of a request in one of the plain encodings: the message holds one value for every element.
struct InputTensor {
  // DataType of TensorFlow: 1 float, 2 double, 3 int32, 7 string, 9 int64, 10 bool.
  int dtype = 0;
  std::vector<int64_t> dims;
  // Elements, the product of `dims`.
  size_t elements = 0;
  // Texts of a string tensor, one for an element; views of the message.
  std::vector<std::string_view> strings;
  // Values of a tensor of numbers in this machine's order of bytes, `elements` times the size of the type. A view of
  // the message if it has tensor_content, else of `converted`.
  std::string_view numbers;
  std::vector<char> converted;

  InputTensor() = default;
  InputTensor(InputTensor&&) = default;
  InputTensor& operator=(InputTensor&&) = default;
};

struct Input {
  std::string_view alias;
  InputTensor tensor;
};

// tensorflow.serving.PredictRequest.
struct PredictRequest {
  ModelSpec model_spec;
  std::vector<Input> inputs;  // no alias twice
  std::vector<std::string_view> output_filter;
};

// tensorflow.serving.GetModelMetadataRequest.
struct MetadataRequest {
  ModelSpec model_spec;
  std::vector<std::string_view> metadata_fields;
};

// Reads a message. Returns nullopt for one that protobuf would refuse, and for one that is valid but unusual, which is
// left to the Python server: no model_spec, a part that is merged from several fields, another type or encoding of a
// tensor, fewer values than elements, an unknown rank, a text that is not UTF-8 in a field of type string, unknown
// fields, groups. Whatever it returns is what protobuf reads from the same message.
std::optional<PredictRequest> ReadPredictRequest(std::string_view message);
std::optional<MetadataRequest> ReadMetadataRequest(std::string_view message);

// `service` of a grpc.health.v1.HealthCheckRequest; nullopt as above.
std::optional<std::string_view> ReadHealthCheckRequest(std::string_view message);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_PREDICT_REQUEST_H_
