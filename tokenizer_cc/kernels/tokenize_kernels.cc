// Registers the kernels of tokenize_ops.cc.

#include "tokenizer_cc/core/bags/tokenizer.h"
#include "tokenizer_cc/kernels/encoding_ops.h"

namespace dpsr {
namespace {

using tensorflow::DEVICE_CPU;

REGISTER_KERNEL_BUILDER(Name("DpsrTokenizerHandle").Device(DEVICE_CPU), ModelHandleOp<Tokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrTokenizerLoad").Device(DEVICE_CPU), ModelLoadOp<Tokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrAnonymousTokenizer").Device(DEVICE_CPU), AnonymousModelOp<Tokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrTokenize").Device(DEVICE_CPU), EncodeOp<Tokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrTokenizeWithFile").Device(DEVICE_CPU), EncodeWithFileOp<Tokenizer>);

}  // namespace
}  // namespace dpsr
