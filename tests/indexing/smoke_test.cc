// Answers queries from a servable without Python: what a C++ server does. TensorFlow's libraries, ScaNN's ops and ours
// are opened at run time, each with its own symbols first and hidden from the others, so that nothing is there by luck.
//
//   smoke_test LIBTENSORFLOW_FRAMEWORK LIBTENSORFLOW_CC SCANN_OPS DPSR_OPS SERVABLE QUERY ITEM_ID SCORE HEAD < queries
//
// QUERY, ITEM_ID, SCORE and HEAD are the tensors of the signature, as OPERATION:INDEX. Queries are lines. Prints a line
// for each result: query number, item id, score, head, separated by tabs.

#include <dlfcn.h>

#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

namespace {

void* g_tensorflow = nullptr;

[[noreturn]] void Fail(const std::string& what) {
  std::cerr << "smoke_test: " << what << "\n";
  std::exit(1);
}

void* Open(const char* path) {
  void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (library == nullptr) Fail(dlerror());
  return library;
}

// A function of TensorFlow's C API; `declared` is there for its type only and is never linked.
template <typename Function>
Function* Api(Function* /*declared*/, const char* name) {
  void* const symbol = dlsym(g_tensorflow, name);
  if (symbol == nullptr) Fail(dlerror());
  Function* function;
  std::memcpy(&function, &symbol, sizeof(function));
  return function;
}
#define TF(name) Api(static_cast<decltype(&::name)>(nullptr), #name)

void Check(const TF_Status* status, const std::string& what) {
  if (TF(TF_GetCode)(status) != TF_OK) Fail(what + ": " + TF(TF_Message)(status));
}

TF_Output Find(TF_Graph* graph, const std::string& tensor) {
  const size_t colon = tensor.rfind(':');
  TF_Operation* const operation = TF(TF_GraphOperationByName)(graph, tensor.substr(0, colon).c_str());
  if (operation == nullptr || colon == std::string::npos) Fail("no tensor " + tensor);
  return {operation, std::atoi(tensor.c_str() + colon + 1)};
}

TF_Tensor* Strings(const std::vector<std::string>& values) {
  const int64_t size = static_cast<int64_t>(values.size());
  TF_Tensor* const tensor = TF(TF_AllocateTensor)(TF_STRING, &size, 1, values.size() * sizeof(TF_TString));
  auto* const data = static_cast<TF_TString*>(TF(TF_TensorData)(tensor));
  for (size_t i = 0; i < values.size(); ++i) {
    TF(TF_StringInit)(&data[i]);
    TF(TF_StringCopy)(&data[i], values[i].data(), values[i].size());
  }
  return tensor;
}

void Print(const std::vector<TF_Tensor*>& outputs) {
  TF_Tensor* const ids = outputs[0];
  const void* const id_data = TF(TF_TensorData)(ids);
  const auto* const scores = static_cast<const float*>(TF(TF_TensorData)(outputs[1]));
  const auto* const heads = static_cast<const int32_t*>(TF(TF_TensorData)(outputs[2]));
  const int64_t rows = TF(TF_Dim)(ids, 0), columns = TF(TF_Dim)(ids, 1);
  for (int64_t i = 0; i < rows * columns; ++i) {
    std::printf("%" PRId64 "\t", i / columns);
    if (TF(TF_TensorType)(ids) == TF_INT64) {
      std::printf("%" PRId64, static_cast<const int64_t*>(id_data)[i]);
    } else {
      const TF_TString* const id = static_cast<const TF_TString*>(id_data) + i;
      std::fwrite(TF(TF_StringGetDataPointer)(id), 1, TF(TF_StringGetSize)(id), stdout);
    }
    std::printf("\t%.9g\t%" PRId32 "\n", static_cast<double>(scores[i]), heads[i]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 10) Fail("usage: smoke_test FRAMEWORK CC SCANN_OPS DPSR_OPS SERVABLE QUERY ITEM_ID SCORE HEAD < queries");
  Open(argv[1]);
  g_tensorflow = Open(argv[2]);
  Open(argv[3]);
  Open(argv[4]);

  TF_Status* const status = TF(TF_NewStatus)();
  TF_Graph* const graph = TF(TF_NewGraph)();
  TF_SessionOptions* const options = TF(TF_NewSessionOptions)();
  const char* const tag = "serve";
  TF_Session* const session =
      TF(TF_LoadSessionFromSavedModel)(options, nullptr, argv[5], &tag, 1, graph, nullptr, status);
  Check(status, argv[5]);

  std::vector<std::string> queries;
  for (std::string line; std::getline(std::cin, line);) queries.push_back(line);
  const TF_Output input = Find(graph, argv[6]);
  const TF_Output fetches[] = {Find(graph, argv[7]), Find(graph, argv[8]), Find(graph, argv[9])};
  TF_Tensor* const query = Strings(queries);
  std::vector<TF_Tensor*> outputs(3);
  TF(TF_SessionRun)(session, nullptr, &input, &query, 1, fetches, outputs.data(), 3, nullptr, 0, nullptr, status);
  Check(status, "run");
  Print(outputs);

  TF(TF_CloseSession)(session, status);
  Check(status, "close");
  TF(TF_DeleteSession)(session, status);
  Check(status, "delete");
  return 0;
}
