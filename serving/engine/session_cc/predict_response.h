// PredictResponse messages, written straight from tensors: TensorFlow Serving's wire format without message objects.

#ifndef DPSR_SERVING_ENGINE_SESSION_CC_PREDICT_RESPONSE_H_
#define DPSR_SERVING_ENGINE_SESSION_CC_PREDICT_RESPONSE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "serving/engine/session_cc/tensor.h"

namespace dpsr::serving {

// Rows [begin, end) of tensors; of a scalar, the whole.
struct Rows {
  int64_t begin;
  int64_t end;
};

// Whether every one of the tensors has so many rows.
bool HaveRows(const std::vector<Tensor>& tensors, int64_t rows);

// The serialized message: `model_spec` is a serialized ModelSpec, `aliases` names the tensors. Numbers are written as
// tensor_content, strings as string_val. Throws Error for a type that has no such encoding.
std::string PredictResponse(const std::string& model_spec, const std::vector<std::string>& aliases,
                            const std::vector<Tensor>& tensors, const std::vector<Rows>& rows);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_PREDICT_RESPONSE_H_
