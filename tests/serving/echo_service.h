// Service of the transport's tests: does what the first words of the message say, and else echoes the message.

#ifndef DPSR_TESTS_SERVING_ECHO_SERVICE_H_
#define DPSR_TESTS_SERVING_ECHO_SERVICE_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>

#include "serving/engine/native/exchange.h"

namespace dpsr::serving {

class EchoService final : public Service {
 public:
  void Predict(Exchange* exchange) override {
    std::istringstream command{std::string(exchange->request())};
    std::string verb;
    command >> verb;
    if (verb == "describe") {
      std::ostringstream answer;
      answer << exchange->peer() << '\n' << exchange->given_request_id() << '\n';
      if (exchange->deadline() == Clock::time_point::max()) {
        answer << "none";
      } else {
        answer << std::chrono::duration<double>(exchange->deadline() - Clock::now()).count();
      }
      exchange->Finish({}, answer.str(), exchange->given_request_id());
    } else if (verb == "fail") {
      CallStatus status;
      command >> status.code >> std::ws;
      std::getline(command, status.message);
      exchange->Finish(status, "not sent", "id of a failure");
    } else if (verb == "forward") {
      exchange->Forward();
    } else if (verb == "sleep") {  // in the calling thread
      double seconds = 0;
      command >> seconds;
      std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
      exchange->Finish({}, std::string(exchange->request()), {});
    } else if (verb == "later") {  // in another thread; until a cancellation at most
      double seconds = 0;
      std::string then;
      command >> seconds >> then;
      Later(exchange, seconds, then == "forward", State::kLater);
    } else if (verb == "until") {  // answered by Cancel itself; a Cancel that comes before this is not noticed
      double seconds = 0;
      command >> seconds;
      Later(exchange, seconds, false, State::kUntilCancelled);
    } else if (verb == "size") {
      size_t size = 0;
      command >> size;
      exchange->Finish({}, std::string(size, 'x'), {});
    } else {
      exchange->Finish({}, std::string(exchange->request()), {});
    }
  }

  void GetModelMetadata(Exchange* exchange) override {
    if (exchange->request().substr(0, 7) == "forward") return exchange->Forward();
    exchange->Finish({}, "metadata of " + std::string(exchange->request()), {});
  }

  void CheckHealth(Exchange* exchange) override { exchange->Finish({}, std::string("\x08\x01", 2), {}); }

  void Cancel(Exchange* exchange) override {
    ++cancels_;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = waiting_.find(exchange);
      if (found == waiting_.end()) return;
      if (found->second.state == State::kLater) {
        found->second.state = State::kCancelled;
        changed_.notify_all();
        return;
      }
      waiting_.erase(found);
      changed_.notify_all();
    }
    exchange->Finish({1, "cancelled"}, {}, {});
  }

  int cancels() const { return cancels_; }

  size_t waiting() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return waiting_.size();
  }

  // Waits for the threads of "later".
  void Join() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return threads_ == 0; });
  }

 private:
  enum class State { kLater, kCancelled, kUntilCancelled, kAnswered };
  struct Waiting {
    State state;
    int number;  // a later exchange may have the same address
  };

  void Later(Exchange* exchange, double seconds, bool forward, State kind) {
    int number = 0;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++threads_;
      number = ++last_number_;
      waiting_[exchange] = {kind, number};
    }
    std::thread([this, exchange, seconds, forward, number] {
      State state = State::kAnswered;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        const auto is_own = [&](const auto& found) {
          return found != waiting_.end() && found->second.number == number;
        };
        const auto has_ended = [&] {
          const auto found = waiting_.find(exchange);
          return !is_own(found) || found->second.state == State::kCancelled;
        };
        changed_.wait_for(lock, std::chrono::duration<double>(seconds), has_ended);
        if (const auto found = waiting_.find(exchange); is_own(found)) {
          state = found->second.state;
          waiting_.erase(found);
        }
      }
      if (state == State::kAnswered) {
        // by Cancel
      } else if (forward) {
        exchange->Forward();
      } else if (state == State::kCancelled) {
        exchange->Finish({1, "cancelled"}, {}, {});
      } else {
        exchange->Finish({}, std::string(exchange->request()), {});
      }
      const std::lock_guard<std::mutex> lock(mutex_);
      --threads_;
      changed_.notify_all();
    }).detach();
  }

  std::atomic<int> cancels_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Exchange*, Waiting> waiting_;
  int threads_ = 0;
  int last_number_ = 0;
};

}  // namespace dpsr::serving

#endif  // DPSR_TESTS_SERVING_ECHO_SERVICE_H_
