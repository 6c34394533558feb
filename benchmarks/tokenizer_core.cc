// Times the core by itself: tokenizer_core MODEL TEXTS REPETITIONS prints nanoseconds, one measurement a line; of
// processor time, but for `wall_...`.

#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tokenizer_cc/core/bags/tokenizer.h"

namespace {

using dpsr::Buffer;
using dpsr::Tokenizer;

long long Now(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * 1'000'000'000LL + now.tv_nsec;
}

long long Nanoseconds(clockid_t clock, const std::function<void()>& work) {
  const long long begin = Now(clock);
  work();
  return Now(clock) - begin;
}

size_t Encode(const Tokenizer& tokenizer, const std::vector<std::string_view>& texts, size_t begin, size_t end) {
  Tokenizer::Workspace workspace;
  Buffer<int32_t> ids;
  std::vector<int64_t> row_splits(1, 0);
  for (size_t i = begin; i < end; ++i) {
    tokenizer.Encode(texts[i], &workspace, &ids);
    row_splits.push_back(static_cast<int64_t>(ids.size()));
  }
  return ids.size();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: tokenizer_core MODEL TEXTS REPETITIONS\n"), 2;
  std::ifstream file(argv[2], std::ios::binary);
  const std::string content{std::istreambuf_iterator<char>(file), {}};
  std::vector<std::string_view> texts;
  for (size_t begin = 0, end; (end = content.find('\n', begin)) != content.npos; begin = end + 1) {
    texts.push_back(std::string_view(content).substr(begin, end - begin));
  }
  std::string error;
  std::shared_ptr<const Tokenizer> tokenizer;
  size_t ids = 0;
  for (int repetition = 0; repetition < std::atoi(argv[3]); ++repetition) {
    std::printf("load %lld\n",
                Nanoseconds(CLOCK_PROCESS_CPUTIME_ID, [&] { tokenizer = Tokenizer::Load(argv[1], &error); }));
    if (tokenizer == nullptr) return std::fprintf(stderr, "%s\n", error.c_str()), 1;
    const auto all = [&] { ids = Encode(*tokenizer, texts, 0, texts.size()); };
    std::printf("one_thread %lld\n", Nanoseconds(CLOCK_PROCESS_CPUTIME_ID, all));
    std::printf("wall_one_thread %lld\n", Nanoseconds(CLOCK_MONOTONIC, all));
    const auto in_two_threads = [&] {
      const size_t half = texts.size() / 2;
      std::thread other([&] { Encode(*tokenizer, texts, 0, half); });
      Encode(*tokenizer, texts, half, texts.size());
      other.join();
    };
    std::printf("two_threads %lld\n", Nanoseconds(CLOCK_PROCESS_CPUTIME_ID, in_two_threads));
    std::printf("wall_two_threads %lld\n", Nanoseconds(CLOCK_MONOTONIC, in_two_threads));
    const size_t some = texts.size() < 1000 ? texts.size() : 1000;
    for (int again = 0; again < 9; ++again) {
      std::printf("thousand %lld\n",
                  Nanoseconds(CLOCK_PROCESS_CPUTIME_ID, [&] { Encode(*tokenizer, texts, 0, some); }));
    }
  }
  std::printf("ids %zu\n", ids);
}
