#include "serving/engine/native/transport/transport.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/security/server_credentials.h>

#include <utility>

#include "serving/engine/native/transport/proxied_call.h"
#include "serving/engine/native/transport/unary_call.h"

namespace dpsr::serving {
namespace {

// Calls of one method that wait for a client. With fewer than arrive at once, a call waits inside gRPC for a free one.
constexpr int kWaitingCalls = 64;

std::shared_ptr<grpc::ServerCredentials> Credentials(const std::optional<TlsOptions>& tls) {
  if (!tls) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(tls->client_ca ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                                           : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.pem_key_cert_pairs.push_back({tls->key, tls->certificate});
  if (tls->client_ca) options.pem_root_certs = *tls->client_ca;
  return grpc::SslServerCredentials(options);
}

std::unique_ptr<grpc::GenericStub> Backend(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  arguments.SetMaxSendMessageSize(-1);
  // A retry would keep a copy of each message.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  return std::make_unique<grpc::GenericStub>(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

}  // namespace

Transport::Transport(Service* service, const TransportOptions& options) {
  shared_.service = service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.address, Credentials(options.tls), &port_);
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, options.reuse_port ? 1 : 0);
  builder.RegisterService(&shared_.unary_methods);
  builder.RegisterAsyncGenericService(&shared_.other_methods);
  shared_.queue = builder.AddCompletionQueue();
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    port_ = 0;
    shared_.queue.reset();
    return;
  }
  shared_.backend = Backend(options.backend);
  for (int i = 0; i < kWaitingCalls; ++i) {
    UnaryCall::Await(&shared_, Method::kPredict);
    UnaryCall::Await(&shared_, Method::kGetModelMetadata);
    UnaryCall::Await(&shared_, Method::kCheckHealth);
    ProxiedCall::Await(&shared_);
  }
  for (int i = 0; i < options.threads; ++i) threads_.emplace_back([this] { Work(); });
}

Transport::~Transport() { Shutdown(std::chrono::milliseconds(0)); }

void Transport::Work() {
  void* tag = nullptr;
  bool ok = false;
  while (shared_.queue->Next(&tag, &ok)) Event::OfTag(tag)->Proceed(ok);
}

void Transport::Shutdown(std::chrono::milliseconds grace) {
  const std::lock_guard<std::mutex> lock(shutdown_);
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now() + grace);
  // A call may start an operation until its end, and none may be started on a queue that is shut down.
  shared_.calls.WaitForNone();
  shared_.queue->Shutdown();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  server_.reset();
  shared_.queue.reset();
  shared_.backend.reset();
}

}  // namespace dpsr::serving
