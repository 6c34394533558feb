// A call that the server behind answers, message by message.

#ifndef DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_PROXIED_CALL_H_
#define DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_PROXIED_CALL_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>

#include "serving/engine/native/transport/shared.h"

namespace dpsr::serving {

// Owns itself, from Await until its last event. Two chains of operations run side by side, each with one operation at a
// time: messages of the client go up; initial metadata, messages and status of the server behind go down.
class ProxiedCall {
 public:
  // Makes a call that waits for a client. Once one has come, the next waits.
  static void Await(Shared* shared);

 private:
  explicit ProxiedCall(Shared* shared);

  void OnArrival(bool ok);
  void OnEnd(bool ok);
  // Up.
  void OnStart(bool ok);
  void OnRequestRead(bool ok);
  void OnRequestSent(bool ok);
  void OnRequestsSent(bool ok);
  // Down.
  void OnMetadataRead(bool ok);
  void OnMetadataSent(bool ok);
  void OnResponseRead(bool ok);
  void OnResponseSent(bool ok);
  void OnStatus(bool ok);
  void OnStatusSent(bool ok);

  // Ends one of the chains; the last one frees the call.
  void EndChain();

  Shared* const shared_;
  Step<ProxiedCall, &ProxiedCall::OnArrival> arrival_{this};
  Step<ProxiedCall, &ProxiedCall::OnEnd> end_{this};
  Step<ProxiedCall, &ProxiedCall::OnStart> start_{this};
  Step<ProxiedCall, &ProxiedCall::OnRequestRead> request_read_{this};
  Step<ProxiedCall, &ProxiedCall::OnRequestSent> request_sent_{this};
  Step<ProxiedCall, &ProxiedCall::OnRequestsSent> requests_sent_{this};
  Step<ProxiedCall, &ProxiedCall::OnMetadataRead> metadata_read_{this};
  Step<ProxiedCall, &ProxiedCall::OnMetadataSent> metadata_sent_{this};
  Step<ProxiedCall, &ProxiedCall::OnResponseRead> response_read_{this};
  Step<ProxiedCall, &ProxiedCall::OnResponseSent> response_sent_{this};
  Step<ProxiedCall, &ProxiedCall::OnStatus> status_read_{this};
  Step<ProxiedCall, &ProxiedCall::OnStatusSent> status_sent_{this};

  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter client_{&context_};
  grpc::ClientContext backend_context_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> backend_;
  grpc::ByteBuffer request_;
  grpc::ByteBuffer response_;
  grpc::Status status_;
  std::atomic<int> chains_{3};  // up, down, and the end of the call by itself
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_PROXIED_CALL_H_
