#include "serving/engine/native/saved_model_servable.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "serving/engine/session_cc/predict_response.h"

namespace dpsr::serving {
namespace {

constexpr std::string_view kDefaultSignature = "serving_default";
constexpr std::string_view kHeadOutput = "head";  // int [rows, K]: the head that found an item, -1 for no item

bool Accepts(const std::optional<std::vector<int64_t>>& shape, const std::vector<int64_t>& dims) {
  if (!shape) return true;
  return std::equal(shape->begin(), shape->end(), dims.begin(), dims.end(),
                    [](int64_t expected, int64_t found) { return expected < 0 || expected == found; });
}

// An input of one call: from the request, or the signature's default.
struct Value {
  const InputTensor* sent;
  const Tensor* absent;
  std::vector<int64_t> dims;

  void AppendStrings(std::vector<std::string_view>* strings) const {
    if (sent != nullptr) {
      strings->insert(strings->end(), sent->strings.begin(), sent->strings.end());
    } else {
      for (int64_t i = 0; i < Elements(dims); ++i) strings->push_back(absent->string(i));
    }
  }

  std::string_view numbers() const {
    if (sent != nullptr) return sent->numbers;
    return {static_cast<const char*>(absent->data()), absent->bytes()};
  }
};

// Concatenation along the batch dimension; all calls agree in the others.
Tensor Join(TF_DataType type, const std::vector<const Value*>& values) {
  std::vector<int64_t> dims = values.front()->dims;
  for (size_t i = 1; i < values.size(); ++i) dims[0] += values[i]->dims[0];
  if (type == TF_STRING) {
    std::vector<std::string_view> strings;
    for (const Value* const value : values) value->AppendStrings(&strings);
    return Tensor::OfStrings(dims, strings);
  }
  Tensor tensor = Tensor::OfNumbers(type, dims);
  auto* target = static_cast<char*>(tensor.data());
  for (const Value* const value : values) {
    const std::string_view numbers = value->numbers();
    if (!numbers.empty()) std::memcpy(target, numbers.data(), numbers.size());
    target += numbers.size();
  }
  return tensor;
}

template <typename Integer>
std::pair<int64_t, int64_t> CountItems(const Tensor& heads) {
  const int64_t rows = TF_Dim(heads.get(), 0), width = TF_Dim(heads.get(), 1);
  const auto* head = static_cast<const Integer*>(heads.data());
  int64_t found = 0, short_rows = 0;
  for (int64_t row = 0; row < rows; ++row, head += width) {
    const int64_t items = std::count_if(head, head + width, [](Integer value) { return value >= 0; });
    found += items;
    short_rows += items < width;
  }
  return {found, short_rows};
}

}  // namespace

struct SavedModelServable::Signature {
  std::vector<InputArgument> inputs;
  std::vector<TF_Output> feeds;
  std::map<std::string, TF_Output, std::less<>> outputs;
  bool has_defaults = false;
  Selection all;
  std::atomic<bool> independent_rows;
  SignatureFigures* figures;

  std::mutex mutex;  // of the selections that filters have asked for
  std::map<std::set<std::string_view>, std::unique_ptr<Selection>> selections;
};

class SavedModelServable::Call : public PreparedCall {
 public:
  Call(Signature* signature, const Selection* selection, PredictRequest request)
      : PreparedCall(signature->figures), signature(signature), selection(selection), request(std::move(request)) {}

  bool SharesRunWith(const PreparedCall& other) const override {
    const auto& call = static_cast<const Call&>(other);  // of the same version
    if (!batchable || !call.batchable || signature != call.signature || selection != call.selection) return false;
    return std::equal(values.begin(), values.end(), call.values.begin(), [](const Value& left, const Value& right) {
      return std::equal(left.dims.begin() + 1, left.dims.end(), right.dims.begin() + 1, right.dims.end());
    });
  }

  Signature* const signature;
  const Selection* const selection;
  const PredictRequest request;
  std::vector<Value> values;  // in the order of the inputs
  bool batchable = false;
};

SavedModelServable::SavedModelServable(const std::shared_ptr<SavedModel>& model, std::string name, int64_t version,
                                       std::string metadata, CallStatus unloaded,
                                       const std::vector<SignatureArguments>& signatures, Figures* figures)
    : Servable(std::move(name), version, std::move(metadata), std::move(unloaded)), model_(model) {
  for (const SignatureArguments& arguments : signatures) {
    auto signature = std::make_unique<Signature>();
    signature->inputs = arguments.inputs;
    for (const InputArgument& input : arguments.inputs) {
      signature->feeds.push_back(model->Find(input.tensor));
      signature->has_defaults |= input.default_value.has_value();
    }
    for (const OutputArgument& output : arguments.outputs) {
      signature->outputs.emplace(output.alias, model->Find(output.tensor));
    }
    for (const auto& [alias, tensor] : signature->outputs) {
      signature->all.aliases.push_back(alias);
      signature->all.fetches.push_back(tensor);
    }
    signature->independent_rows = arguments.independent_rows;
    signature->figures = figures->Of(this->name, std::to_string(version), arguments.name);
    signatures_.emplace(arguments.name, std::move(signature));
  }
}

SavedModelServable::~SavedModelServable() = default;

const SavedModelServable::Selection* SavedModelServable::Select(Signature* signature,
                                                                const std::vector<std::string_view>& filter) {
  if (filter.empty()) return &signature->all;
  std::set<std::string_view> chosen;  // of the names of the outputs, which outlive the request
  for (const std::string_view alias : filter) {
    const auto found = signature->outputs.find(alias);
    if (found == signature->outputs.end() || !chosen.insert(found->first).second) return nullptr;
  }
  const std::lock_guard<std::mutex> lock(signature->mutex);
  std::unique_ptr<Selection>& selection = signature->selections[chosen];
  if (selection == nullptr) {
    selection = std::make_unique<Selection>();
    for (const std::string_view alias : chosen) {
      selection->aliases.emplace_back(alias);
      selection->fetches.push_back(signature->outputs.find(alias)->second);
    }
  }
  return selection.get();
}

std::unique_ptr<PreparedCall> SavedModelServable::Prepare(PredictRequest request, const Limits& limits) {
  const std::string_view key = request.model_spec.signature_name;
  const auto found = signatures_.find(key.empty() ? kDefaultSignature : key);
  if (found == signatures_.end()) return nullptr;
  Signature* const signature = found->second.get();
  const Selection* const selection = Select(signature, request.output_filter);
  if (selection == nullptr) return nullptr;
  auto call = std::make_unique<Call>(signature, selection, std::move(request));
  size_t sent = 0;
  bool same_rows = true;
  int64_t rows = -1;
  for (const InputArgument& input : signature->inputs) {
    const auto& inputs = call->request.inputs;
    const auto given =
        std::find_if(inputs.begin(), inputs.end(), [&](const Input& each) { return each.alias == input.alias; });
    if (given == inputs.end()) {
      if (!input.default_value) return nullptr;
      call->values.push_back({nullptr, &*input.default_value, input.default_value->dims()});
    } else {
      const InputTensor& tensor = given->tensor;
      ++sent;
      if (tensor.dtype != static_cast<int>(input.type) || !Accepts(input.shape, tensor.dims)) return nullptr;
      if (!tensor.dims.empty() && tensor.dims[0] > limits.batch_rows) return nullptr;
      for (const std::string_view text : tensor.strings) {
        if (text.size() > limits.query_bytes) return nullptr;
      }
      call->values.push_back({&tensor, nullptr, tensor.dims});
    }
    const std::vector<int64_t>& dims = call->values.back().dims;
    const int64_t own = dims.empty() ? -1 : dims[0];
    same_rows &= own >= 0 && (rows < 0 || rows == own);
    rows = own;
  }
  if (sent != call->request.inputs.size()) return nullptr;
  call->rows = same_rows && rows > 0 ? rows : 0;
  call->batchable = call->rows > 0 && signature->independent_rows.load();
  return call;
}

std::optional<std::vector<std::string>> SavedModelServable::Run(const std::vector<PreparedCall*>& calls) {
  const std::shared_ptr<SavedModel> model = model_.lock();
  if (model == nullptr) return std::nullopt;
  const auto& first = static_cast<const Call&>(*calls.front());
  Signature* const signature = first.signature;
  try {
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < signature->inputs.size(); ++i) {
      std::vector<const Value*> values;
      for (const PreparedCall* const call : calls) values.push_back(&static_cast<const Call*>(call)->values[i]);
      inputs.push_back(Join(signature->inputs[i].type, values));
    }
    const std::vector<Tensor> outputs = model->Run(signature->feeds, inputs, first.selection->fetches);
    int64_t rows = 0;
    for (const PreparedCall* const call : calls) rows += call->rows;
    if (calls.size() > 1 && !HaveRows(outputs, rows)) {
      signature->independent_rows.store(false);
      return std::nullopt;
    }
    std::vector<Rows> part;
    for (const Tensor& tensor : outputs) part.push_back({0, tensor.rows()});
    const std::string spec = ModelSpecMessage(name, version, first.figures->signature);
    std::vector<std::string> answers;
    int64_t end = 0;
    for (const PreparedCall* const call : calls) {
      if (calls.size() > 1) part.assign(part.size(), {end, end + call->rows});
      end += call->rows;
      answers.push_back(PredictResponse(spec, first.selection->aliases, outputs, part));
    }
    Count(first, calls.size(), rows, outputs);
    return answers;
  } catch (const Error&) {
    return std::nullopt;
  }
}

void SavedModelServable::Count(const Call& first, size_t calls, int64_t rows,
                               const std::vector<Tensor>& outputs) const {
  SignatureFigures* const figures = first.figures;
  figures->batch_rows.Observe(static_cast<double>(rows));
  figures->batch_requests.Observe(static_cast<double>(calls));
  const std::vector<std::string>& aliases = first.selection->aliases;
  const auto head = std::find(aliases.begin(), aliases.end(), kHeadOutput);
  if (head == aliases.end()) return;
  const Tensor& heads = outputs[static_cast<size_t>(head - aliases.begin())];
  if (TF_NumDims(heads.get()) != 2) return;
  std::pair<int64_t, int64_t> counted{0, 0};
  if (heads.type() == TF_INT32) counted = CountItems<int32_t>(heads);
  if (heads.type() == TF_INT64) counted = CountItems<int64_t>(heads);
  figures->results.fetch_add(counted.first, std::memory_order_relaxed);
  figures->short_rows.fetch_add(counted.second, std::memory_order_relaxed);
}

}  // namespace dpsr::serving
