// The readers against bytes written by hand, and their laws over 100,000 mutated messages. The comparison with protobuf
// is tests/serving/test_predict_request.py.

#include "serving/engine/native/predict_request.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serving/engine/native/random_requests.h"

namespace dpsr::serving {
namespace {

using Dims = std::vector<int64_t>;
using Texts = std::vector<std::string_view>;

// Bytes with zeros among them.
template <size_t size>
std::string Bytes(const char (&literal)[size]) {
  return std::string(literal, size - 1);
}

const std::string kSpec = BytesField(1, BytesField(1, "shop"));

// A request with one input, "q", of a tensor.
std::string RequestOf(const std::string& tensor) {
  return kSpec + BytesField(2, BytesField(1, "q") + BytesField(2, tensor));
}

std::string Shape(const Dims& dims) {
  std::string shape;
  for (const int64_t size : dims) shape += BytesField(2, VarintField(1, static_cast<uint64_t>(size)));
  return BytesField(2, shape);
}

std::optional<InputTensor> ReadTensor(const std::string& message) {
  std::optional<PredictRequest> request = ReadPredictRequest(message);
  if (!request || request->inputs.size() != 1 || request->inputs[0].alias != "q") return std::nullopt;
  return std::move(request->inputs[0].tensor);
}

template <typename T>
std::vector<T> Numbers(const InputTensor& tensor) {
  std::vector<T> numbers(tensor.numbers.size() / sizeof(T));
  std::memcpy(numbers.data(), tensor.numbers.data(), tensor.numbers.size());
  return numbers;
}

// Numbers of a request's one tensor, of shape [2]; none if it is refused.
template <typename T>
std::vector<T> ReadPair(int dtype, const std::string& values) {
  const std::string message = RequestOf(VarintField(1, dtype) + Shape({2}) + values);
  const std::optional<InputTensor> tensor = ReadTensor(message);
  return tensor ? Numbers<T>(*tensor) : std::vector<T>{};
}

void ExpectRefused(const std::string& tensor) { EXPECT_FALSE(ReadPredictRequest(RequestOf(tensor))); }

TEST(PredictRequest, ReadsWhatAClientWrites) {
  // model_spec {name: "shop" version {value: 300} signature_name: "s"}
  // inputs {key: "q" value {dtype: DT_STRING tensor_shape {dim {size: 2}} string_val: "ab" string_val: "\377"}}
  // output_filter: "id"
  const std::string message = Bytes(
      "\x0A\x0E\x0A\x04shop\x12\x03\x08\xAC\x02\x1A\x01s"
      "\x12\x14\x0A\x01q\x12\x0F\x08\x07\x12\x04\x12\x02\x08\x02\x42\x02"
      "ab\x42\x01\xFF"
      "\x1A\x02id");
  const std::optional<PredictRequest> request = ReadPredictRequest(message);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->model_spec.name, "shop");
  EXPECT_EQ(request->model_spec.version, 300);
  EXPECT_FALSE(request->model_spec.version_label);
  EXPECT_EQ(request->model_spec.signature_name, "s");
  EXPECT_EQ(request->output_filter, Texts{"id"});
  ASSERT_EQ(request->inputs.size(), 1u);
  EXPECT_EQ(request->inputs[0].alias, "q");
  const InputTensor& tensor = request->inputs[0].tensor;
  EXPECT_EQ(tensor.dtype, 7);
  EXPECT_EQ(tensor.dims, Dims{2});
  EXPECT_EQ(tensor.elements, 2u);
  EXPECT_EQ(tensor.strings, (Texts{"ab", "\xFF"}));
}

TEST(PredictRequest, ReadsNumbersInEachEncoding) {
  const std::string one = Bytes("\0\0\x80\x3F"), two = Bytes("\0\0\0\x40");
  const std::vector<float> floats{1, 2};
  EXPECT_EQ(ReadPair<float>(1, BytesField(4, one + two)), floats);
  EXPECT_EQ(ReadPair<float>(1, BytesField(5, one + two)), floats);
  EXPECT_EQ(ReadPair<float>(1, "\x2D" + one + "\x2D" + two), floats);
  EXPECT_EQ(ReadPair<float>(1, BytesField(5, one) + "\x2D" + two), floats);

  const std::string half = Bytes("\0\0\0\0\0\0\xE0\x3F"), four = Bytes("\0\0\0\0\0\0\x10\x40");
  const std::vector<double> doubles{0.5, 4};
  EXPECT_EQ(ReadPair<double>(2, BytesField(6, half + four)), doubles);
  EXPECT_EQ(ReadPair<double>(2, "\x31" + half + "\x31" + four), doubles);

  const std::string minus_one(Bytes("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"));
  EXPECT_EQ(ReadPair<int32_t>(3, BytesField(7, minus_one + "\x05")), (std::vector<int32_t>{-1, 5}));
  EXPECT_EQ(ReadPair<int32_t>(3, "\x38" + minus_one + "\x38\x05"), (std::vector<int32_t>{-1, 5}));
  EXPECT_EQ(ReadPair<int64_t>(9, BytesField(10, minus_one + "\x05")), (std::vector<int64_t>{-1, 5}));
  EXPECT_EQ(ReadPair<int64_t>(9, "\x50" + minus_one + "\x50\x05"), (std::vector<int64_t>{-1, 5}));
  EXPECT_EQ(ReadPair<char>(10, BytesField(11, Bytes("\0\x01"))), (std::vector<char>{0, 1}));
  EXPECT_EQ(ReadPair<char>(10, Bytes("\x58\x02\x58\0")), (std::vector<char>{1, 0}));
  EXPECT_EQ(ReadPair<char>(10, BytesField(4, Bytes("\0\x01"))), (std::vector<char>{0, 1}));
}

TEST(PredictRequest, NumbersAreThoseOfTheMessageOrOfTheTensor) {
  const std::string content = RequestOf(VarintField(1, 9) + BytesField(4, std::string(8, '\1')));
  const std::optional<PredictRequest> viewed = ReadPredictRequest(content);
  ASSERT_TRUE(viewed);
  EXPECT_EQ(viewed->inputs[0].tensor.numbers.data(), content.data() + content.size() - 8);
  EXPECT_TRUE(viewed->inputs[0].tensor.converted.empty());

  std::optional<PredictRequest> request = ReadPredictRequest(RequestOf(VarintField(1, 9) + VarintField(10, 7)));
  ASSERT_TRUE(request);
  const PredictRequest moved = *std::move(request);
  EXPECT_EQ(moved.inputs[0].tensor.numbers.data(), moved.inputs[0].tensor.converted.data());
  EXPECT_EQ(Numbers<int64_t>(moved.inputs[0].tensor), std::vector<int64_t>{7});
}

TEST(PredictRequest, ShapesAreKnownAndHoldTheValues) {
  const std::string dtype = VarintField(1, 3), value = VarintField(7, 5);
  EXPECT_EQ(ReadTensor(RequestOf(dtype + value))->dims, Dims{});                              // a scalar
  EXPECT_EQ(ReadTensor(RequestOf(value + BytesField(2, "") + dtype))->elements, 1u);          // in another order
  EXPECT_EQ(ReadTensor(RequestOf(dtype + Shape({1, 1}) + value))->dims, (Dims{1, 1}));        //
  EXPECT_EQ(ReadTensor(RequestOf(dtype + Shape({3, 0})))->elements, 0u);                      // no value at all
  EXPECT_EQ(ReadTensor(RequestOf(dtype + BytesField(2, BytesField(2, ""))))->dims, Dims{0});  // a size not set
  const std::string named = BytesField(2, BytesField(2, BytesField(2, "rows") + VarintField(1, 1)));
  EXPECT_EQ(ReadTensor(RequestOf(dtype + named + value))->dims, Dims{1});
  EXPECT_TRUE(ReadTensor(RequestOf(dtype + BytesField(2, VarintField(3, 0)) + value)));

  ExpectRefused(dtype);                                                                  // fewer values than elements
  ExpectRefused(dtype + Shape({2}) + value);                                             //
  ExpectRefused(dtype + value + value);                                                  // more of them
  ExpectRefused(dtype + Shape({-1}) + value);                                            //
  ExpectRefused(dtype + Shape({int64_t{1} << 32, int64_t{1} << 32, 0}));                 // overflow
  ExpectRefused(dtype + Shape({0, int64_t{1} << 32, int64_t{1} << 32}));                 //
  ExpectRefused(dtype + Shape({int64_t{1} << 39}) + value);                              //
  ExpectRefused(VarintField(1, 7) + Shape({int64_t{1} << 39}) + BytesField(8, "text"));  // more than memory has
  ExpectRefused(dtype + Shape(Dims(33, 1)) + value);                                     //
  ExpectRefused(dtype + BytesField(2, VarintField(3, 1)) + value);                       // an unknown rank
  ExpectRefused(dtype + Shape({1}) + Shape({1}) + value);                                // merged
  ExpectRefused(dtype + BytesField(2, BytesField(2, BytesField(2, "\xFF"))));            // a name that is not UTF-8
}

TEST(PredictRequest, OfAFieldThatStandsTwiceTheLastCounts) {
  const std::string one(8, '\1'), two(8, '\2');
  const std::string tensor = VarintField(1, 3) + VarintField(1, 9) + BytesField(4, one) + BytesField(4, two);
  const std::string entry = BytesField(1, "p") + BytesField(2, tensor) + BytesField(1, "q");
  const std::string version = VarintField(1, 5) + VarintField(1, 6);
  const std::string spec = BytesField(1, "a") + BytesField(1, "b") + BytesField(3, "a") + BytesField(3, "b");
  const std::string message = BytesField(2, entry) + BytesField(1, spec + BytesField(2, version));
  const std::optional<PredictRequest> request = ReadPredictRequest(message);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->inputs[0].alias, "q");
  EXPECT_EQ(request->inputs[0].tensor.numbers, two);
  EXPECT_EQ(request->model_spec.name, "b");
  EXPECT_EQ(request->model_spec.signature_name, "b");
  EXPECT_EQ(request->model_spec.version, 6);
  const std::string labels = BytesField(1, BytesField(4, "a") + BytesField(4, "b"));
  const std::optional<PredictRequest> labelled = ReadPredictRequest(labels);
  ASSERT_TRUE(labelled);
  EXPECT_EQ(labelled->model_spec.version_label, "b");
}

TEST(PredictRequest, LeavesUnusualTensorsToOthers) {
  const std::string scalar = VarintField(1, 9) + VarintField(10, 5);
  EXPECT_TRUE(ReadTensor(RequestOf(scalar + VarintField(3, 0))));
  ExpectRefused(scalar + VarintField(3, 1));                               // version_number
  ExpectRefused(scalar + BytesField(14, ""));                              // resource_handle_val
  ExpectRefused(scalar + BytesField(15, ""));                              // variant_val
  ExpectRefused(scalar + VarintField(16, 5));                              // uint32_val
  ExpectRefused(scalar + BytesField(4, std::string(8, '\1')));             // content and values
  ExpectRefused(scalar + VarintField(7, 5));                               // values of two types
  ExpectRefused(VarintField(1, 3) + VarintField(10, 5));                   // values of another type
  ExpectRefused(VarintField(1, 7) + BytesField(4, "text"));                // the content of a string
  ExpectRefused(VarintField(1, 9) + BytesField(4, "short"));               //
  ExpectRefused(VarintField(1, 10) + BytesField(4, "\2"));                 // no bool
  ExpectRefused(VarintField(1, 3) + VarintField(7, 0xFFFFFFFF));           // -1 for parsers that cut
  ExpectRefused(VarintField(1, 1) + BytesField(5, std::string(5, '\0')));  // half a number more
  ExpectRefused(VarintField(1, 9) + BytesField(10, "\x80"));               // a pack that ends too early
  for (const int dtype : {0, 4, 8, 11, 19, 20, 103, 109, 1 << 20}) ExpectRefused(VarintField(1, dtype) + "\x50\x05");
  EXPECT_FALSE(ReadPredictRequest(kSpec + BytesField(2, BytesField(1, "q"))));                   // no tensor
  EXPECT_FALSE(ReadPredictRequest(RequestOf(scalar) + RequestOf(scalar).substr(kSpec.size())));  // an alias twice
  const std::string entry = BytesField(2, scalar);
  EXPECT_TRUE(ReadPredictRequest(kSpec + BytesField(2, entry)));
  EXPECT_FALSE(ReadPredictRequest(kSpec + BytesField(2, entry + entry)));  // merged
  std::string inputs;
  for (char alias = 0; alias < 65; ++alias) {
    inputs += BytesField(2, BytesField(1, {&alias, 1}) + entry);
    EXPECT_EQ(ReadPredictRequest(kSpec + inputs).has_value(), alias < 64);
  }
}

TEST(PredictRequest, LeavesUnusualModelsToOthers) {
  EXPECT_TRUE(ReadPredictRequest(kSpec));
  EXPECT_TRUE(ReadPredictRequest(BytesField(1, "")));
  EXPECT_EQ(ReadPredictRequest(BytesField(1, BytesField(2, "")))->model_spec.version, 0);
  EXPECT_FALSE(ReadPredictRequest(""));
  EXPECT_FALSE(ReadPredictRequest(kSpec + kSpec));
  for (const std::string& spec : {
           BytesField(2, "") + BytesField(2, ""),   // merged
           BytesField(2, "") + BytesField(4, "a"),  // two of a oneof
           BytesField(4, "a") + BytesField(2, ""),  //
           BytesField(1, "\xC0\x80"),               // an overlong form
           BytesField(3, "\xED\xA0\x80"),           // a surrogate
           BytesField(4, "\xF4\x90\x80\x80"),       // above the last code point
           BytesField(5, ""),                       //
           BytesField(2, BytesField(2, "")),        //
       }) {
    EXPECT_FALSE(ReadPredictRequest(BytesField(1, spec)));
    EXPECT_FALSE(ReadMetadataRequest(BytesField(1, spec)));
  }
  for (const std::string& field : {
           BytesField(3, "\xE2\x82"),  // half a character
           BytesField(5, ""),          // predict_streamed_options
           BytesField(6, "me"),        // client_id
           BytesField(7, ""),          // request_options
           BytesField(0, ""),          //
           std::string("\x13\x14"),    // a group
           std::string("\x14"),        //
           std::string("\x0F"),        // no wire type
       }) {
    EXPECT_FALSE(ReadPredictRequest(kSpec + field));
  }
}

TEST(PredictRequest, VarintsHaveOneForm) {
  const auto read = [](const std::string& version) {
    return ReadPredictRequest(BytesField(1, BytesField(2, "\x08" + version))).has_value();
  };
  const std::string nine(9, '\xFF');
  EXPECT_TRUE(read(Bytes("\0")));
  EXPECT_TRUE(read("\x80\x01"));
  EXPECT_TRUE(read(nine + "\x01"));
  EXPECT_FALSE(read(Bytes("\x80\0")));     // longer than needed
  EXPECT_FALSE(read(nine + Bytes("\0")));  //
  EXPECT_FALSE(read(nine + "\x02"));       // beyond 64 bits
  EXPECT_FALSE(read(nine + "\xFF\x01"));   //
  EXPECT_FALSE(read("\x80"));              //
  EXPECT_FALSE(read(""));                  //
  EXPECT_FALSE(ReadPredictRequest("\x0A\x80"));
  EXPECT_FALSE(ReadPredictRequest("\x0A\x01"));                                      // a length beyond the end
  EXPECT_FALSE(ReadPredictRequest("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"));  // a negative one
  EXPECT_FALSE(ReadPredictRequest(kSpec + Bytes("\x9A\0\x01x")));                    // a tag longer than needed
}

TEST(MetadataRequest, ReadsModelAndFields) {
  const std::string message = BytesField(2, "signature_def") + kSpec + BytesField(2, "other");
  const std::optional<MetadataRequest> request = ReadMetadataRequest(message);
  ASSERT_TRUE(request);
  EXPECT_EQ(request->model_spec.name, "shop");
  EXPECT_EQ(request->metadata_fields, (Texts{"signature_def", "other"}));
  EXPECT_TRUE(ReadMetadataRequest(kSpec));
  EXPECT_FALSE(ReadMetadataRequest(BytesField(2, "signature_def")));
  EXPECT_FALSE(ReadMetadataRequest(kSpec + kSpec));
  EXPECT_FALSE(ReadMetadataRequest(kSpec + BytesField(2, "\xFF")));
  EXPECT_FALSE(ReadMetadataRequest(kSpec + BytesField(3, "")));
}

TEST(HealthCheckRequest, ReadsTheService) {
  EXPECT_EQ(ReadHealthCheckRequest(""), "");
  EXPECT_EQ(ReadHealthCheckRequest(BytesField(1, "a") + BytesField(1, "b")), "b");
  EXPECT_FALSE(ReadHealthCheckRequest(BytesField(1, "\xFF")));
  EXPECT_FALSE(ReadHealthCheckRequest(BytesField(2, "a")));
  EXPECT_FALSE(ReadHealthCheckRequest(Bytes("\x0A\x02x")));
}

TEST(PredictRequest, LawsHoldOfMutatedMessages) {
  RequestDrawer drawer(11);
  std::vector<std::string> messages;
  for (int i = 0; i < 1000; ++i) {
    messages.push_back(drawer.DrawRequest());
    bool accepted;
    EXPECT_EQ(ReaderLaws(messages.back()).Broken(&accepted), "");
    EXPECT_TRUE(accepted) << testing::PrintToString(messages.back());
  }
  int accepted_count = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::string mutated = drawer.Mutate(messages[i % 1000], messages[i * 7 % 1000]);
    // Memory of exactly its size, so that the address sanitizer sees every read beyond it.
    const std::unique_ptr<char[]> copy(new char[mutated.size()]);
    std::memcpy(copy.get(), mutated.data(), mutated.size());
    bool accepted;
    ASSERT_EQ(ReaderLaws({copy.get(), mutated.size()}).Broken(&accepted), "") << testing::PrintToString(mutated);
    accepted_count += accepted;
  }
  EXPECT_GT(accepted_count, 5000);
  EXPECT_LT(accepted_count, 95000);
}

}  // namespace
}  // namespace dpsr::serving
