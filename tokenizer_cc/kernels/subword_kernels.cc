// Registers the kernels of subword_ops.cc.

#include "tokenizer_cc/core/subwords/subword_tokenizer.h"
#include "tokenizer_cc/kernels/encoding_ops.h"

namespace dpsr {
namespace {

using tensorflow::DEVICE_CPU;

REGISTER_KERNEL_BUILDER(Name("DpsrSubwordsHandle").Device(DEVICE_CPU), ModelHandleOp<SubwordTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrSubwordsLoad").Device(DEVICE_CPU), ModelLoadOp<SubwordTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrAnonymousSubwords").Device(DEVICE_CPU), AnonymousModelOp<SubwordTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrSubwords").Device(DEVICE_CPU), EncodeOp<SubwordTokenizer>);
REGISTER_KERNEL_BUILDER(Name("DpsrSubwordsWithFile").Device(DEVICE_CPU), EncodeWithFileOp<SubwordTokenizer>);

}  // namespace
}  // namespace dpsr
