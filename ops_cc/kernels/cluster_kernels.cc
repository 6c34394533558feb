// Ops that run on the tasks of a training cluster: arrays mapped from local files, and the identity of a task.

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/allocation_description.pb.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/platform/hash.h"

namespace dpsr {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// A whole file in memory, read-only, until the last tensor that lies in it is gone. All tensors of a process share one
// mapping of a file, so that its pages count once in the memory of the process, however many graphs read it.
class MappedFile {
 public:
  static absl::Status Open(const std::string& path, std::shared_ptr<MappedFile>* file) {
    const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return Failed(path, "cannot be opened");
    struct stat status;
    absl::Status result = absl::OkStatus();
    if (fstat(descriptor, &status) != 0) {
      result = Failed(path, "cannot be examined");
    } else {
      const size_t size = static_cast<size_t>(status.st_size);
      static std::mutex* const mutex = new std::mutex;
      static auto* const open_files = new std::map<std::pair<dev_t, ino_t>, std::weak_ptr<MappedFile>>;
      const std::lock_guard<std::mutex> lock(*mutex);
      // A mapping keeps the inode of a replaced file, so that no other file has its number meanwhile.
      std::weak_ptr<MappedFile>& known = (*open_files)[{status.st_dev, status.st_ino}];
      *file = known.lock();
      if (*file == nullptr || (*file)->size() != size) {
        void* const data = size == 0 ? nullptr : mmap(nullptr, size, PROT_READ, MAP_SHARED, descriptor, 0);
        if (data == MAP_FAILED) {
          result = Failed(path, "cannot be mapped into memory");
        } else {
          file->reset(new MappedFile(data, size));
          known = *file;
        }
      }
    }
    close(descriptor);
    return result;
  }

  ~MappedFile() {
    if (data_ != nullptr) munmap(data_, size_);
  }

  char* data() const { return static_cast<char*>(data_); }
  size_t size() const { return size_; }

 private:
  MappedFile(void* data, size_t size) : data_(data), size_(size) {}

  static absl::Status Failed(const std::string& path, const char* what) {
    return absl::NotFoundError(absl::StrCat(path, " ", what, ": ", std::strerror(errno),
                                            "; the dataset and the work_dir have to be there under the same path on "
                                            "every worker and parameter server"));
  }

  void* data_;
  size_t size_;
};

// Keeps a mapped file for as long as tensors lie in it.
class MappedBuffer : public tensorflow::TensorBuffer {
 public:
  MappedBuffer(std::shared_ptr<MappedFile> file, int64_t offset, size_t size)
      : TensorBuffer(file->data() + offset), file_(std::move(file)), size_(size) {}

  size_t size() const override { return size_; }
  tensorflow::TensorBuffer* root_buffer() override { return this; }
  void FillAllocationDescription(tensorflow::AllocationDescription* description) const override {
    description->set_requested_bytes(static_cast<int64_t>(size_));
    description->set_allocator_name("dpsr_mapped_array");
  }
  // No op may write its output in place of this one.
  bool OwnsMemory() const override { return false; }

 private:
  std::shared_ptr<MappedFile> file_;
  size_t size_;
};

class MappedArrayOp : public OpKernel {
 public:
  explicit MappedArrayOp(OpKernelConstruction* context) : OpKernel(context) {
    tensorflow::PartialTensorShape shape;
    OP_REQUIRES_OK(context, context->GetAttr("path", &path_));
    OP_REQUIRES_OK(context, context->GetAttr("offset", &offset_));
    OP_REQUIRES_OK(context, context->GetAttr("dtype", &dtype_));
    OP_REQUIRES_OK(context, context->GetAttr("shape", &shape));
    OP_REQUIRES(
        context, shape.AsTensorShape(&shape_),
        absl::InvalidArgumentError(absl::StrCat(path_, ": the shape ", shape.DebugString(), " is not fully defined")));
    OP_REQUIRES(context, offset_ % EIGEN_MAX_ALIGN_BYTES == 0,
                absl::InvalidArgumentError(
                    absl::StrCat(path_, ": offset ", offset_, " is not a multiple of ", EIGEN_MAX_ALIGN_BYTES)));
  }

  void Compute(OpKernelContext* context) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!is_mapped_) {
      OP_REQUIRES_OK(context, Map());
      is_mapped_ = true;
    }
    context->set_output(0, array_);
  }

 private:
  absl::Status Map() {
    const size_t bytes = shape_.num_elements() * tensorflow::DataTypeSize(dtype_);
    if (bytes == 0) {
      array_ = Tensor(dtype_, shape_);
      return absl::OkStatus();
    }
    std::shared_ptr<MappedFile> file;
    TF_RETURN_IF_ERROR(MappedFile::Open(path_, &file));
    if (file->size() < static_cast<size_t>(offset_) + bytes) {
      return absl::FailedPreconditionError(absl::StrCat(path_, " has ", file->size(), " bytes, expected at least ",
                                                        offset_ + bytes,
                                                        "; this task sees another dataset than the chief"));
    }
    auto* const buffer = new MappedBuffer(std::move(file), offset_, bytes);
    const tensorflow::core::ScopedUnref unref(buffer);
    array_ = Tensor(dtype_, shape_, buffer);
    return absl::OkStatus();
  }

  std::string path_;
  int64_t offset_;
  tensorflow::DataType dtype_;
  TensorShape shape_;
  std::mutex mutex_;
  bool is_mapped_ = false;
  Tensor array_;
};

// The file that this code was loaded from, as 16 hexadecimal digits.
absl::Status LibraryFingerprint(std::string* digits) {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&LibraryFingerprint), &info) == 0 || info.dli_fname == nullptr) {
    return absl::InternalError("the op library does not know its own file");
  }
  std::shared_ptr<MappedFile> file;
  TF_RETURN_IF_ERROR(MappedFile::Open(info.dli_fname, &file));
  *digits = absl::StrCat(absl::Hex(tensorflow::Hash64(file->data(), file->size()), absl::kZeroPad16));
  return absl::OkStatus();
}

class TaskOp : public OpKernel {
 public:
  explicit TaskOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    Tensor *device = nullptr, *library = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, TensorShape({}), &device));
    OP_REQUIRES_OK(context, context->allocate_output(1, TensorShape({}), &library));
    std::string digits;
    OP_REQUIRES_OK(context, LibraryFingerprint(&digits));
    device->scalar<tensorflow::tstring>()() = context->device()->name();
    library->scalar<tensorflow::tstring>()() = digits;
  }
};

class EndTaskOp : public OpKernel {
 public:
  explicit EndTaskOp(OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext*) override {
    std::thread([] {
      std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the caller's answer goes out first
      kill(getpid(), SIGTERM);
    }).detach();
  }
};

REGISTER_KERNEL_BUILDER(Name("DpsrMappedArray").Device(tensorflow::DEVICE_CPU), MappedArrayOp);
REGISTER_KERNEL_BUILDER(Name("DpsrTask").Device(tensorflow::DEVICE_CPU), TaskOp);
REGISTER_KERNEL_BUILDER(Name("DpsrEndTask").Device(tensorflow::DEVICE_CPU), EndTaskOp);

}  // namespace
}  // namespace dpsr
