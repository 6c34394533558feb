#include "serving/engine/native/transport/unary_call.h"

#include <grpc/support/time.h>

#include <chrono>
#include <utility>

#include "serving/engine/native/transport/metadata.h"

namespace dpsr::serving {
namespace {

constexpr char kRequestIdHeader[] = "x-request-id";

// Buffer that owns a string, whose bytes are not copied.
grpc::ByteBuffer BufferOf(std::string text) {
  auto* const owned = new std::string(std::move(text));
  const grpc::Slice slice(
      owned->data(), owned->size(), [](void* string) { delete static_cast<std::string*>(string); }, owned);
  return {&slice, 1};
}

}  // namespace

// The call of the server behind.
struct UnaryCall::Forwarded {
  grpc::ClientContext context;
  grpc::ByteBuffer response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
};

void UnaryCall::Await(Shared* shared, Method method) {
  auto* const call = new UnaryCall(shared, method);
  shared->unary_methods.Request(method, &call->context_, &call->request_, &call->writer_, shared->queue.get(),
                                call->arrival_.tag());
}

UnaryCall::UnaryCall(Shared* shared, Method method) : shared_(shared), method_(method) {
  shared_->calls.Add();
  context_.AsyncNotifyWhenDone(end_.tag());
}

UnaryCall::~UnaryCall() = default;

std::string_view UnaryCall::request() const {
  return {reinterpret_cast<const char*>(message_.begin()), message_.size()};
}

Clock::time_point UnaryCall::deadline() const {
  const gpr_timespec deadline = context_.raw_deadline();
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) return Clock::time_point::max();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  return Clock::now() + std::chrono::seconds(left.tv_sec) + std::chrono::nanoseconds(left.tv_nsec);
}

void UnaryCall::OnArrival(bool ok) {
  Shared* const shared = shared_;
  if (!ok) {  // the server shuts down
    delete this;
    shared->calls.Remove();
    return;
  }
  Await(shared, method_);
  Serve();
}

void UnaryCall::Serve() {
  // A message in several slices is copied into one.
  if (!request_.TrySingleSlice(&message_).ok() && !request_.DumpToSingleSlice(&message_).ok()) {
    return Finish({grpc::StatusCode::INTERNAL, "the message cannot be read"}, {}, {});
  }
  const auto& metadata = context_.client_metadata();
  if (const auto found = metadata.find(kRequestIdHeader); found != metadata.end()) {
    given_request_id_ = {found->second.data(), found->second.size()};
  }
  bool cancelled = false;
  {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    stage_ = Stage::kServed;
    cancelled = cancelled_;
  }
  if (cancelled) return Finish({grpc::StatusCode::CANCELLED, "the client has left"}, {}, {});
  switch (method_) {
    case Method::kPredict:
      return shared_->service->Predict(this);
    case Method::kGetModelMetadata:
      return shared_->service->GetModelMetadata(this);
    case Method::kCheckHealth:
      return shared_->service->CheckHealth(this);
  }
}

void UnaryCall::Finish(const CallStatus& status, std::string response, std::string_view request_id) {
  {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    stage_ = Stage::kAnswered;
  }
  if (!request_id.empty()) context_.AddTrailingMetadata(kRequestIdHeader, std::string(request_id));
  if (status.ok()) {
    response_ = BufferOf(std::move(response));
    writer_.Finish(response_, grpc::Status::OK, answer_.tag());
  } else {
    writer_.FinishWithError({static_cast<grpc::StatusCode>(status.code), status.message}, answer_.tag());
  }
}

void UnaryCall::Forward() {
  auto forwarded = std::make_unique<Forwarded>();
  CopyRequest(context_, &forwarded->context);
  forwarded->reader = shared_->backend->PrepareUnaryCall(
      &forwarded->context, kMethodNames[static_cast<size_t>(method_)], request_, shared_->queue.get());
  Forwarded* const call = forwarded.get();
  {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    stage_ = Stage::kForwarded;
    forwarded_ = std::move(forwarded);
    if (cancelled_) call->context.TryCancel();
  }
  call->reader->StartCall();
  call->reader->Finish(&call->response, &call->status, backend_answer_.tag());
}

void UnaryCall::OnBackendAnswer(bool) {
  CopyInitialMetadata(forwarded_->context, &context_);
  CopyTrailingMetadata(forwarded_->context, &context_);
  if (forwarded_->status.ok()) {
    writer_.Finish(forwarded_->response, forwarded_->status, answer_.tag());
  } else {
    writer_.FinishWithError(forwarded_->status, answer_.tag());
  }
}

void UnaryCall::OnAnswer(bool) { Release(); }

void UnaryCall::OnEnd(bool) {
  if (context_.IsCancelled()) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    cancelled_ = true;
    if (stage_ == Stage::kServed && method_ == Method::kPredict) shared_->service->Cancel(this);
    if (stage_ == Stage::kForwarded) forwarded_->context.TryCancel();
  }
  Release();
}

void UnaryCall::Release() {
  if (events_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  Shared* const shared = shared_;
  delete this;
  shared->calls.Remove();
}

}  // namespace dpsr::serving
