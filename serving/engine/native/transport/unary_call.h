// A call that the engine answers or forwards.

#ifndef DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_UNARY_CALL_H_
#define DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "serving/engine/native/exchange.h"
#include "serving/engine/native/transport/shared.h"
#include "serving/engine/native/transport/unary_methods.h"

namespace dpsr::serving {

// Owns itself, from Await until its last event.
class UnaryCall final : public Exchange {
 public:
  // Makes a call that waits for a client of the method. Once one has come, the next waits.
  static void Await(Shared* shared, Method method);

  std::string_view request() const override;
  std::string_view given_request_id() const override { return given_request_id_; }
  std::string peer() const override { return context_.peer(); }
  Clock::time_point deadline() const override;
  bool cancelled() const override { return cancelled_.load(); }
  void Finish(const CallStatus& status, std::string response, std::string_view request_id) override;
  void Forward() override;

 private:
  enum class Stage { kNew, kServed, kAnswered, kForwarded };
  struct Forwarded;

  UnaryCall(Shared* shared, Method method);
  ~UnaryCall() override;

  void OnArrival(bool ok);
  void OnAnswer(bool ok);
  void OnBackendAnswer(bool ok);
  void OnEnd(bool ok);
  void Serve();
  void Release();

  Shared* const shared_;
  const Method method_;
  Step<UnaryCall, &UnaryCall::OnArrival> arrival_{this};
  Step<UnaryCall, &UnaryCall::OnAnswer> answer_{this};
  Step<UnaryCall, &UnaryCall::OnBackendAnswer> backend_answer_{this};
  Step<UnaryCall, &UnaryCall::OnEnd> end_{this};
  grpc::ServerContext context_;
  grpc::ServerAsyncResponseWriter<grpc::ByteBuffer> writer_{&context_};
  grpc::ByteBuffer request_;
  grpc::Slice message_;
  std::string_view given_request_id_;
  grpc::ByteBuffer response_;
  std::unique_ptr<Forwarded> forwarded_;
  // Events still to come: the end of the call and the end of the answer.
  std::atomic<int> events_{2};
  // Held while the service is told of a cancellation, which may answer the call in the same thread.
  std::recursive_mutex mutex_;
  Stage stage_ = Stage::kNew;
  std::atomic<bool> cancelled_{false};
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_UNARY_CALL_H_
