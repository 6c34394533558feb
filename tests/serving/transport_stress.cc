// Calls of many threads to a transport that is shut down under them, for the sanitizers.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "serving/engine/native/transport/transport.h"
#include "tests/serving/echo_service.h"

namespace dpsr::serving {
namespace {

constexpr char kPredict[] = "/tensorflow.serving.PredictionService/Predict";
constexpr char kOther[] = "/test.Backend/Echo";
constexpr int kRounds = 6;
constexpr int kClients = 8;

// The server behind: sends every message back.
class EchoBackend final : public grpc::CallbackGenericService {
 private:
  class Call final : public grpc::ServerGenericBidiReactor {
   public:
    Call() { StartRead(&message_); }
    void OnReadDone(bool ok) override {
      if (ok) {
        StartWrite(&message_);
      } else {
        Finish(grpc::Status::OK);
      }
    }
    void OnWriteDone(bool ok) override {
      if (ok) {
        StartRead(&message_);
      } else {
        Finish(grpc::Status::OK);
      }
    }
    void OnDone() override { delete this; }

   private:
    grpc::ByteBuffer message_;
  };

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override { return new Call; }
};

grpc::ByteBuffer Buffer(const std::string& text) {
  const grpc::Slice slice(text);
  return {&slice, 1};
}

std::string Text(grpc::ByteBuffer* buffer) {
  grpc::Slice slice;
  if (!buffer->DumpToSingleSlice(&slice).ok()) return {};
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

// Some calls of one thread at a time, all answered, cancelled or late, until `stop`.
class Client {
 public:
  Client(int port, unsigned seed) : random_(seed) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials(), arguments));
  }

  void Run(const std::atomic<bool>& stop) {
    static const char* const kTexts[] = {"quick",       "later 0.01", "forward",  "later 0.01 forward",
                                         "sleep 0.001", "fail 3 bad", "until 0.5"};
    while (!stop) {
      const unsigned kind = random_() % 9;
      if (kind < 7) {
        Unary(kPredict, std::string(kTexts[kind]) + " " + std::to_string(random_()), kind == 6);
      } else if (kind == 7) {
        Unary(kOther, std::to_string(random_()), false);
      } else {
        Stream();
      }
    }
  }

  int right() const { return right_; }
  int wrong() const { return wrong_; }

 private:
  void Unary(const char* method, const std::string& text, bool waits) {
    grpc::ClientContext context;
    const bool cancel = waits || random_() % 8 == 0;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(random_() % 8 == 0 ? 5 : 20000));
    grpc::ByteBuffer response;
    grpc::Status status;
    const auto reader = stub_->PrepareUnaryCall(&context, method, Buffer(text), &queue_);
    reader->StartCall();
    reader->Finish(&response, &status, this);
    if (cancel) {
      std::this_thread::sleep_for(std::chrono::microseconds(random_() % 3000));
      context.TryCancel();
    }
    Take();
    if (status.ok()) Check(Text(&response) == text);
  }

  void Stream() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const auto stream = stub_->PrepareCall(&context, kOther, &queue_);
    stream->StartCall(this);
    bool ok = Take();
    for (unsigned left = random_() % 20; ok && left > 0; --left) {
      const std::string text(random_() % 10000, 'x');
      stream->Write(Buffer(text), this);
      ok = Take();
      if (!ok) break;
      grpc::ByteBuffer answer;
      stream->Read(&answer, this);
      ok = Take();
      if (ok) Check(Text(&answer) == text);
      if (random_() % 30 == 0) context.TryCancel();
    }
    if (ok) {
      stream->WritesDone(this);
      Take();
    }
    grpc::Status status;
    stream->Finish(&status, this);
    Take();
  }

  bool Take() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  void Check(bool right) { ++(right ? right_ : wrong_); }

  std::minstd_rand random_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::CompletionQueue queue_;
  int right_ = 0;
  int wrong_ = 0;
};

// One transport from its start to a shutdown under load; false if an answer was wrong.
bool Round(const std::string& backend, unsigned round) {
  EchoService service;
  TransportOptions options;
  options.address = "127.0.0.1:0";
  options.backend = backend;
  options.threads = 3;
  Transport transport(&service, options);
  std::atomic<bool> stop{false};
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kClients; ++i) {
    clients.push_back(std::make_unique<Client>(transport.port(), 1 + round * kClients + i));
    threads.emplace_back([client = clients.back().get(), &stop] { client->Run(stop); });
  }
  std::this_thread::sleep_for(std::chrono::seconds(1));
  std::thread other([&transport] { transport.Shutdown(std::chrono::milliseconds(20)); });
  transport.Shutdown(std::chrono::milliseconds(20));
  other.join();
  stop = true;
  for (std::thread& thread : threads) thread.join();
  service.Join();
  int right = 0, wrong = 0;
  for (const auto& client : clients) {
    right += client->right();
    wrong += client->wrong();
  }
  std::printf("round %u: %d right answers, %d wrong, %d cancellations\n", round, right, wrong, service.cancels());
  std::fflush(stdout);
  return right > 0 && wrong == 0;
}

int Main() {
  char folder[] = "/tmp/dpsr-stress-XXXXXX";
  if (mkdtemp(folder) == nullptr) return 1;
  const std::string address = std::string("unix:") + folder + "/backend.sock";
  EchoBackend backend;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterCallbackGenericService(&backend);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  bool right = server != nullptr;
  for (unsigned round = 0; right && round < kRounds; ++round) right = Round(address, round);
  if (server != nullptr) server->Shutdown();
  std::remove((std::string(folder) + "/backend.sock").c_str());
  std::remove(folder);
  return right ? 0 : 1;
}

}  // namespace
}  // namespace dpsr::serving

int main() { return dpsr::serving::Main(); }
