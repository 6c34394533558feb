#include "serving/engine/native/transport/metadata.h"

#include <map>
#include <string>
#include <string_view>

namespace dpsr::serving {
namespace {

constexpr std::string_view kPeerHeader = "x-dpsr-peer";

std::string_view View(const grpc::string_ref& text) { return {text.data(), text.size()}; }

// Headers of the protocol itself, which either connection sets for its own.
bool OfProtocol(std::string_view key) {
  return key.empty() || key.front() == ':' || key.substr(0, 5) == "grpc-" || key == "te" || key == "user-agent" ||
         key == "content-type" || key == "accept-encoding";
}

template <typename Add>
void Copy(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata, const Add& add) {
  for (const auto& [key, value] : metadata) {
    if (!OfProtocol(View(key))) add(std::string(View(key)), std::string(View(value)));
  }
}

}  // namespace

void CopyRequest(const grpc::ServerContext& from, grpc::ClientContext* to) {
  Copy(from.client_metadata(), [to](const std::string& key, const std::string& value) {
    if (key != kPeerHeader) to->AddMetadata(key, value);
  });
  to->AddMetadata(std::string(kPeerHeader), from.peer());
  to->set_deadline(from.raw_deadline());
}

void CopyInitialMetadata(const grpc::ClientContext& from, grpc::ServerContext* to) {
  Copy(from.GetServerInitialMetadata(),
       [to](const std::string& key, const std::string& value) { to->AddInitialMetadata(key, value); });
}

void CopyTrailingMetadata(const grpc::ClientContext& from, grpc::ServerContext* to) {
  Copy(from.GetServerTrailingMetadata(),
       [to](const std::string& key, const std::string& value) { to->AddTrailingMetadata(key, value); });
}

}  // namespace dpsr::serving
