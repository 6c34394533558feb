// The contract of the transport, which knows gRPC, and the engine, which knows TensorFlow. They are two libraries that
// share no symbol: each brings its own Protocol Buffers and Abseil. What is here uses the standard library alone.

#ifndef DPSR_SERVING_ENGINE_NATIVE_EXCHANGE_H_
#define DPSR_SERVING_ENGINE_NATIVE_EXCHANGE_H_

#include <chrono>
#include <string>
#include <string_view>

namespace dpsr::serving {

using Clock = std::chrono::steady_clock;

// Status of a call; the codes are gRPC's.
struct CallStatus {
  int code = 0;
  std::string message;

  bool ok() const { return code == 0; }
};

// A unary call of a client. It belongs to the transport, and lives until Finish or Forward returns. One of the two is
// called once, in any thread; the other methods may be called in any thread before that.
class Exchange {
 public:
  Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  // The message of the client, as it came.
  virtual std::string_view request() const = 0;
  // Value of the header x-request-id; empty without one.
  virtual std::string_view given_request_id() const = 0;
  // Address of the client, as "ipv4:127.0.0.1:34567".
  virtual std::string peer() const = 0;
  // End of the client's patience; Clock::time_point::max() for a call without a deadline.
  virtual Clock::time_point deadline() const = 0;
  // Whether the client has left, or its deadline has passed. True before Service::Cancel is called. Takes no lock.
  virtual bool cancelled() const = 0;

  // Answers the call. `response` is a serialised message, used if `status` is OK. `request_id`, unless it is empty,
  // goes into the trailing metadata as x-request-id. After the client has left, this frees the call and sends nothing.
  virtual void Finish(const CallStatus& status, std::string response, std::string_view request_id) = 0;

  // Hands the call, with its message, to the Python server behind, which answers it.
  virtual void Forward() = 0;
};

// What the engine answers. Every other method is forwarded by the transport itself.
class Service {
 public:
  Service() = default;
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;
  virtual ~Service() = default;

  // tensorflow.serving.PredictionService/Predict. May run the model in the calling thread.
  virtual void Predict(Exchange* exchange) = 0;
  // tensorflow.serving.PredictionService/GetModelMetadata. Does not block.
  virtual void GetModelMetadata(Exchange* exchange) = 0;
  // grpc.health.v1.Health/Check. Does not block.
  virtual void CheckHealth(Exchange* exchange) = 0;

  // The client of a Predict call has left, or its deadline has passed. Called at most once for an exchange, before
  // its Finish or Forward returns, and perhaps before Predict has looked at it; the exchange still has to be finished.
  // Does not block.
  virtual void Cancel(Exchange* exchange) = 0;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_EXCHANGE_H_
