// PredictResponse messages serialised from tensors, without message objects in between.

#ifndef DPSR_SERVING_ENGINE_SESSION_CC_PREDICT_RESPONSE_H_
#define DPSR_SERVING_ENGINE_SESSION_CC_PREDICT_RESPONSE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "serving/engine/session_cc/tensor.h"

namespace dpsr::serving {

// Rows [begin, end) of a tensor; a scalar counts as one row.
struct Rows {
  int64_t begin;
  int64_t end;
};

// Whether every tensor has this number of rows.
bool HaveRows(const std::vector<Tensor>& tensors, int64_t rows);

// Serialised ModelSpec of an answer.
std::string ModelSpecMessage(const std::string& model, int64_t version, const std::string& signature);

// Serialised PredictResponse of some rows of each tensor. `model_spec` is a serialised ModelSpec; `aliases` names the
// tensors. Numbers are written as tensor_content, strings as string_val. Throws Error for other types.
std::string PredictResponse(const std::string& model_spec, const std::vector<std::string>& aliases,
                            const std::vector<Tensor>& tensors, const std::vector<Rows>& rows);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_SESSION_CC_PREDICT_RESPONSE_H_
