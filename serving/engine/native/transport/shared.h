// What the calls of one transport share, and the kinds of event in its completion queue.

#ifndef DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_SHARED_H_
#define DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_SHARED_H_

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>

#include "serving/engine/native/exchange.h"
#include "serving/engine/native/transport/unary_methods.h"

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

namespace dpsr::serving {

// End of an operation. The thread that takes the event out of the completion queue calls Proceed, with false for an
// operation that failed.
class Event {
 public:
  Event() = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  virtual void Proceed(bool ok) = 0;

  // The operation's tag for gRPC. What came before the operation has happened before its event is taken; the thread
  // sanitizer, which does not see into gRPC, is told so.
  void* tag() {
#ifdef __SANITIZE_THREAD__
    __tsan_release(this);
#endif
    return this;
  }

  static Event* OfTag(void* tag) {
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(tag);
#endif
    return static_cast<Event*>(tag);
  }

 protected:
  ~Event() = default;
};

// Event that continues a call with one of its methods.
template <typename Call, void (Call::*kStep)(bool)>
class Step final : public Event {
 public:
  explicit Step(Call* call) : call_(call) {}
  void Proceed(bool ok) override { (call_->*kStep)(ok); }

 private:
  Call* const call_;
};

// Number of calls, waiting ones included, that may still start an operation. Thread-safe.
class CallCount {
 public:
  void Add() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
  }

  void Remove() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ == 0) none_.notify_all();
  }

  void WaitForNone() {
    std::unique_lock<std::mutex> lock(mutex_);
    none_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable none_;
  size_t count_ = 0;
};

struct Shared {
  Service* service;
  UnaryMethods unary_methods;
  grpc::AsyncGenericService other_methods;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  std::unique_ptr<grpc::GenericStub> backend;
  CallCount calls;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_SHARED_H_
