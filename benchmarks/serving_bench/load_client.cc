// Closed-loop load of a gRPC server: callers on one connection, each of which waits for its last answer.
//
//   load_client ADDRESS METHOD REQUESTS CALLERS SECONDS
//
// REQUESTS is a file of serialised requests, each behind its size: 4 bytes, little endian. One thread does everything.
// Prints a JSON object of the answers' number, the time, latencies and the processor time. Ends with an error at the
// first call that fails.

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

// Time without any answer after which the server counts as stuck.
constexpr std::chrono::seconds kPatience{60};

// Ends without the destructors, which would wait for calls in progress.
[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "load_client: %s\n", message.c_str());
  std::fflush(nullptr);
  std::_Exit(1);
}

std::vector<grpc::ByteBuffer> ReadRequests(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<grpc::ByteBuffer> requests;
  for (size_t place = 0; place < bytes.size();) {
    size_t size = 0;
    for (size_t i = 0; i < 4 && place + i < bytes.size(); ++i) {
      size |= static_cast<size_t>(static_cast<unsigned char>(bytes[place + i])) << (8 * i);
    }
    place += 4;
    if (place + size > bytes.size()) Fail(path + ": the last request is cut off");
    const grpc::Slice slice(bytes.data() + place, size);
    requests.emplace_back(&slice, 1);
    place += size;
  }
  if (requests.empty()) Fail(path + ": no requests");
  return requests;
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(-1);
  // Retries keep copies of messages, and the other two look up names.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class Load {
 public:
  Load(const std::string& address, std::string method, std::vector<grpc::ByteBuffer> requests)
      : stub_(Connect(address)), method_(std::move(method)), requests_(std::move(requests)) {}

  // Every caller asks again until the time is over, then for its last answer. Returns the time that all took.
  double Run(size_t callers, double seconds) {
    latencies_.clear();
    callers_ = std::vector<Caller>(callers);
    const Clock::time_point begin = Clock::now();
    const Clock::time_point end =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    for (size_t i = 0; i < callers; ++i) {
      callers_[i].next = i;
      Ask(&callers_[i]);
    }
    for (size_t asking = callers; asking > 0;) {
      Caller* const caller = NextAnswer();
      const Clock::time_point now = Clock::now();
      latencies_.push_back(std::chrono::duration<double, std::milli>(now - caller->start).count());
      if (now < end) {
        Ask(caller);
      } else {
        --asking;
      }
    }
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }

  size_t answers() const { return latencies_.size(); }

  // Interpolated between the two nearest, as NumPy does.
  double Percentile(double percent) {
    std::sort(latencies_.begin(), latencies_.end());
    const double rank = percent / 100 * static_cast<double>(latencies_.size() - 1);
    const auto below = static_cast<size_t>(rank);
    const size_t above = std::min(below + 1, latencies_.size() - 1);
    return latencies_[below] + (rank - static_cast<double>(below)) * (latencies_[above] - latencies_[below]);
  }

 private:
  struct Caller {
    size_t next = 0;
    Clock::time_point start;
    std::optional<grpc::ClientContext> context;
    std::unique_ptr<grpc::ClientAsyncResponseReader<grpc::ByteBuffer>> reader;
    grpc::ByteBuffer answer;
    grpc::Status status;
  };

  void Ask(Caller* caller) {
    caller->start = Clock::now();
    caller->reader.reset();  // lies in the memory of the call, which the context owns
    caller->context.emplace();
    const grpc::ByteBuffer& request = requests_[caller->next % requests_.size()];
    caller->next += callers_.size();
    caller->reader = stub_.PrepareUnaryCall(&*caller->context, method_, request, &queue_);
    caller->reader->StartCall();
    caller->reader->Finish(&caller->answer, &caller->status, caller);
  }

  Caller* NextAnswer() {
    void* tag = nullptr;
    bool ok = false;
    if (queue_.AsyncNext(&tag, &ok, std::chrono::system_clock::now() + kPatience) != grpc::CompletionQueue::GOT_EVENT) {
      Fail("no answer for " + std::to_string(kPatience.count()) + " s");
    }
    auto* const caller = static_cast<Caller*>(tag);
    if (!caller->status.ok()) {
      Fail("a call failed with status " + std::to_string(caller->status.error_code()) + ": " +
           caller->status.error_message());
    }
    if (caller->answer.Length() == 0) Fail("an answer is empty");
    caller->answer.Clear();
    return caller;
  }

  grpc::GenericStub stub_;
  const std::string method_;
  const std::vector<grpc::ByteBuffer> requests_;
  grpc::CompletionQueue queue_;
  std::vector<Caller> callers_;
  std::vector<double> latencies_;
};

double ProcessSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

}  // namespace

int main(int count, char** words) {
  if (count != 6) Fail("usage: load_client ADDRESS METHOD REQUESTS CALLERS SECONDS");
  const long callers = std::atol(words[4]);
  const double seconds = std::atof(words[5]);
  if (callers < 1 || seconds <= 0) Fail("CALLERS and SECONDS have to be positive");
  Load load(words[1], words[2], ReadRequests(words[3]));
  load.Run(1, 0);  // connects
  const double before = ProcessSeconds();
  const double took = load.Run(static_cast<size_t>(callers), seconds);
  const double processor = ProcessSeconds() - before;
  std::printf("{\"answers\": %zu, \"seconds\": %.6f, \"median_ms\": %.6f, \"p99_ms\": %.6f, \"cpu_seconds\": %.6f}\n",
              load.answers(), took, load.Percentile(50), load.Percentile(99), processor);
  return 0;
}
