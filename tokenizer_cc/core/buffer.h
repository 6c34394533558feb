// A growing array whose spare room may be written directly.

#ifndef DPSR_TOKENIZER_CC_CORE_BUFFER_H_
#define DPSR_TOKENIZER_CC_CORE_BUFFER_H_

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

namespace dpsr {

// Unlike std::vector it neither clears what it grows nor checks each element: a writer asks for room once (Reserve),
// writes at end(), and says how much it wrote (Advance). The memory can be handed over (Release).
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  using Memory = std::unique_ptr<T[], Free>;

  const T* data() const { return memory_.get(); }
  T* data() { return memory_.get(); }
  T* end() { return memory_.get() + size_; }
  size_t size() const { return size_; }

  void Clear() { size_ = 0; }
  void Advance(size_t count) { size_ += count; }
  void Truncate(size_t size) { size_ = size; }

  // Makes room for `count` more at end(); keeps what is there. Throws std::bad_alloc.
  void Reserve(size_t count) {
    if (capacity_ - size_ < count) Reallocate(std::max(size_ + count, 2 * capacity_));
  }

  void Append(const T* elements, size_t count) {
    if (count == 0) return;
    Reserve(count);
    std::memcpy(end(), elements, count * sizeof(T));
    size_ += count;
  }

  // Gives the memory to the caller, without what was reserved in vain, and leaves an empty buffer. It is never null.
  Memory Release() {
    if (memory_ == nullptr || size_ < capacity_) Reallocate(std::max<size_t>(size_, 1));
    size_ = capacity_ = 0;
    return std::move(memory_);
  }

 private:
  void Reallocate(size_t capacity) {
    void* moved = std::realloc(memory_.get(), capacity * sizeof(T));
    if (moved == nullptr) throw std::bad_alloc();
    memory_.release();  // NOLINT: realloc freed or kept it
    memory_.reset(static_cast<T*>(moved));
    capacity_ = capacity;
  }

  Memory memory_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_CORE_BUFFER_H_
