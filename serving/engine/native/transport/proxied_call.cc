#include "serving/engine/native/transport/proxied_call.h"

#include "serving/engine/native/transport/metadata.h"

namespace dpsr::serving {

void ProxiedCall::Await(Shared* shared) {
  auto* const call = new ProxiedCall(shared);
  grpc::ServerCompletionQueue* const queue = shared->queue.get();
  shared->other_methods.RequestCall(&call->context_, &call->client_, queue, queue, call->arrival_.tag());
}

ProxiedCall::ProxiedCall(Shared* shared) : shared_(shared) {
  shared_->calls.Add();
  context_.AsyncNotifyWhenDone(end_.tag());
}

void ProxiedCall::OnArrival(bool ok) {
  Shared* const shared = shared_;
  if (!ok) {  // the server shuts down
    delete this;
    shared->calls.Remove();
    return;
  }
  Await(shared);
  CopyRequest(context_, &backend_context_);
  backend_ = shared->backend->PrepareCall(&backend_context_, context_.method(), shared->queue.get());
  backend_->StartCall(start_.tag());
}

void ProxiedCall::OnEnd(bool) {
  if (context_.IsCancelled()) backend_context_.TryCancel();
  EndChain();
}

void ProxiedCall::OnStart(bool) {
  backend_->ReadInitialMetadata(metadata_read_.tag());
  client_.Read(&request_, request_read_.tag());
}

void ProxiedCall::OnRequestRead(bool ok) {
  if (ok) {
    backend_->Write(request_, request_sent_.tag());
  } else {
    backend_->WritesDone(requests_sent_.tag());
  }
}

void ProxiedCall::OnRequestSent(bool ok) {
  if (ok) {
    client_.Read(&request_, request_read_.tag());
  } else {
    EndChain();
  }
}

void ProxiedCall::OnRequestsSent(bool) { EndChain(); }

void ProxiedCall::OnMetadataRead(bool ok) {
  if (ok) {
    CopyInitialMetadata(backend_context_, &context_);
    client_.SendInitialMetadata(metadata_sent_.tag());
  } else {
    backend_->Finish(&status_, status_read_.tag());
  }
}

void ProxiedCall::OnMetadataSent(bool) { backend_->Read(&response_, response_read_.tag()); }

void ProxiedCall::OnResponseRead(bool ok) {
  if (ok) {
    client_.Write(response_, response_sent_.tag());
  } else {
    backend_->Finish(&status_, status_read_.tag());
  }
}

void ProxiedCall::OnResponseSent(bool) { backend_->Read(&response_, response_read_.tag()); }

void ProxiedCall::OnStatus(bool) {
  CopyTrailingMetadata(backend_context_, &context_);
  client_.Finish(status_, status_sent_.tag());
}

void ProxiedCall::OnStatusSent(bool) { EndChain(); }

void ProxiedCall::EndChain() {
  if (chains_.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
  Shared* const shared = shared_;
  delete this;
  shared->calls.Remove();
}

}  // namespace dpsr::serving
