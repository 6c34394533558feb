#include "serving/engine/native/transport/proxied_call.h"

#include "serving/engine/native/transport/metadata.h"

namespace dpsr::serving {

void ProxiedCall::Await(Shared* shared) {
  auto* const call = new ProxiedCall(shared);
  grpc::ServerCompletionQueue* const queue = shared->queue.get();
  shared->other_methods.RequestCall(&call->context_, &call->client_, queue, queue, &call->arrival_);
}

ProxiedCall::ProxiedCall(Shared* shared) : shared_(shared) {
  shared_->calls.Add();
  context_.AsyncNotifyWhenDone(&end_);
}

void ProxiedCall::OnArrival(bool ok) {
  Shared* const shared = shared_;
  if (!ok) {  // the server shuts down
    delete this;
    shared->calls.Remove();
    return;
  }
  Await(shared);
  Expect();
  CopyRequest(context_, &backend_context_);
  backend_ = shared->backend->PrepareCall(&backend_context_, context_.method(), shared->queue.get());
  backend_->StartCall(&start_);
}

void ProxiedCall::OnEnd(bool) {
  if (context_.IsCancelled()) backend_context_.TryCancel();
  Release();
}

void ProxiedCall::OnStart(bool) {
  Expect();
  backend_->ReadInitialMetadata(&metadata_read_);
  Expect();
  client_.Read(&request_, &request_read_);
  Release();
}

void ProxiedCall::OnRequestRead(bool ok) {
  Expect();
  if (ok) {
    backend_->Write(request_, &request_sent_);
  } else {
    backend_->WritesDone(&requests_sent_);
  }
  Release();
}

void ProxiedCall::OnRequestSent(bool ok) {
  if (ok) {
    Expect();
    client_.Read(&request_, &request_read_);
  }
  Release();
}

void ProxiedCall::OnRequestsSent(bool) { Release(); }

void ProxiedCall::OnMetadataRead(bool ok) {
  Expect();
  if (ok) {
    CopyInitialMetadata(backend_context_, &context_);
    client_.SendInitialMetadata(&metadata_sent_);
  } else {
    backend_->Finish(&status_, &status_read_);
  }
  Release();
}

void ProxiedCall::OnMetadataSent(bool) {
  Expect();
  backend_->Read(&response_, &response_read_);
  Release();
}

void ProxiedCall::OnResponseRead(bool ok) {
  Expect();
  if (ok) {
    client_.Write(response_, &response_sent_);
  } else {
    backend_->Finish(&status_, &status_read_);
  }
  Release();
}

void ProxiedCall::OnResponseSent(bool) {
  Expect();
  backend_->Read(&response_, &response_read_);
  Release();
}

void ProxiedCall::OnStatus(bool) {
  Expect();
  CopyTrailingMetadata(backend_context_, &context_);
  client_.Finish(status_, &status_sent_);
  Release();
}

void ProxiedCall::OnStatusSent(bool) { Release(); }

void ProxiedCall::Release() {
  if (events_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  Shared* const shared = shared_;
  delete this;
  shared->calls.Remove();
}

}  // namespace dpsr::serving
