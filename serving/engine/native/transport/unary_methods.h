// The methods that the engine answers, with messages as bytes.

#ifndef DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_UNARY_METHODS_H_
#define DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_UNARY_METHODS_H_

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/rpc_service_method.h>
#include <grpcpp/impl/service_type.h>

#include <array>

namespace dpsr::serving {

enum class Method { kPredict, kGetModelMetadata, kCheckHealth };

inline constexpr std::array<const char*, 3> kMethodNames = {
    "/tensorflow.serving.PredictionService/Predict",
    "/tensorflow.serving.PredictionService/GetModelMetadata",
    "/grpc.health.v1.Health/Check",
};

// Registered methods, unlike those of a generic service, deliver the message together with the call: one event fewer.
class UnaryMethods final : public grpc::Service {
 public:
  UnaryMethods() {
    for (size_t method = 0; method < kMethodNames.size(); ++method) {
      AddMethod(
          new grpc::internal::RpcServiceMethod(kMethodNames[method], grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
      MarkMethodAsync(static_cast<int>(method));
    }
  }

  void Request(Method method, grpc::ServerContext* context, grpc::ByteBuffer* message,
               grpc::ServerAsyncResponseWriter<grpc::ByteBuffer>* writer, grpc::ServerCompletionQueue* queue,
               void* tag) {
    RequestAsyncUnary(static_cast<int>(method), context, message, writer, queue, queue, tag);
  }
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_UNARY_METHODS_H_
