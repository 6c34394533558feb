// The gRPC port of the server: calls that the engine answers go to it, in the thread that takes them from the socket;
// all others go to the Python server behind.

#ifndef DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_TRANSPORT_H_
#define DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_TRANSPORT_H_

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "serving/engine/native/exchange.h"
#include "serving/engine/native/transport/shared.h"

namespace grpc {
class Server;
}

namespace dpsr::serving {

// PEM texts.
struct TlsOptions {
  std::string key;
  std::string certificate;
  std::optional<std::string> client_ca;  // clients need a certificate of this authority
};

struct TransportOptions {
  std::string address;  // "127.0.0.1:8500", "[::]:0"
  std::string backend;  // "unix:/run/dpsr/backend.sock"
  int threads = 1;
  int max_message_bytes = 4 << 20;
  bool reuse_port = false;
  std::optional<TlsOptions> tls;
};

// Thread-safe.
class Transport {
 public:
  // The service must outlive the transport.
  Transport(Service* service, const TransportOptions& options);
  // Shuts down without grace.
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  // 0 if the address cannot be listened on.
  int port() const { return port_; }

  // Accepts no call any more, cancels calls that have not ended after `grace`, and returns once all have ended and no
  // thread is left. The service has to finish each of its exchanges.
  void Shutdown(std::chrono::milliseconds grace);

 private:
  void Work();

  Shared shared_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;  // null before the start and after the shutdown
  std::vector<std::thread> threads_;
  std::mutex shutdown_;
};

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_TRANSPORT_H_
