// Metadata on the way from a client to the server behind, and back.

#ifndef DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_METADATA_H_
#define DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_METADATA_H_

#include <grpcpp/grpcpp.h>

namespace dpsr::serving {

// Prepares a call of the server behind from the client's: metadata, deadline, and the client's address as the header
// x-dpsr-peer. A header of that name from the client is dropped.
void CopyRequest(const grpc::ServerContext& from, grpc::ClientContext* to);

void CopyInitialMetadata(const grpc::ClientContext& from, grpc::ServerContext* to);
void CopyTrailingMetadata(const grpc::ClientContext& from, grpc::ServerContext* to);

}  // namespace dpsr::serving

#endif  // DPSR_SERVING_ENGINE_NATIVE_TRANSPORT_METADATA_H_
