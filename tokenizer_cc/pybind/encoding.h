// What the Python classes of all tokenizers share: texts in, NumPy's arrays out.

#ifndef DPSR_TOKENIZER_CC_PYBIND_ENCODING_H_
#define DPSR_TOKENIZER_CC_PYBIND_ENCODING_H_

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer_cc/core/buffer.h"
#include "tokenizer_cc/core/model_bytes.h"

namespace dpsr {

// Views of Python strings, which it keeps alive and which Python never changes: they may be read without the GIL.
class Texts {
 public:
  // Any sequence of str and bytes.
  explicit Texts(const pybind11::handle& sequence)
      : items_(pybind11::reinterpret_steal<pybind11::object>(PySequence_Tuple(sequence.ptr()))) {
    if (!items_) throw pybind11::error_already_set();
    const auto size = static_cast<size_t>(PyTuple_GET_SIZE(items_.ptr()));
    views_.reserve(size);
    for (size_t i = 0; i < size; ++i) {
      PyObject* const item = PyTuple_GET_ITEM(items_.ptr(), static_cast<Py_ssize_t>(i));
      if (!Add(item)) {
        throw pybind11::type_error("texts[" + std::to_string(i) + "] is a " + Py_TYPE(item)->tp_name +
                                   "; expected str or bytes");
      }
    }
  }

  static Texts One(const pybind11::handle& text) {
    Texts one;
    if (!one.Add(text.ptr())) {
      throw pybind11::type_error(std::string("text is a ") + Py_TYPE(text.ptr())->tp_name + "; expected str or bytes");
    }
    return one;
  }

  const std::vector<std::string_view>& views() const { return views_; }

 private:
  Texts() = default;

  bool Add(PyObject* text) {
    if (PyBytes_Check(text)) {
      views_.emplace_back(PyBytes_AS_STRING(text), static_cast<size_t>(PyBytes_GET_SIZE(text)));
      return true;
    }
    if (!PyUnicode_Check(text)) return false;
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text, &size);
    if (bytes == nullptr) {
      // Lone surrogates: their encoding is invalid UTF-8, which is read as U+FFFD.
      PyErr_Clear();
      auto encoded =
          pybind11::reinterpret_steal<pybind11::object>(PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass"));
      if (!encoded) throw pybind11::error_already_set();
      bytes = PyBytes_AS_STRING(encoded.ptr());
      size = PyBytes_GET_SIZE(encoded.ptr());
      encoded_.push_back(std::move(encoded));
    }
    views_.emplace_back(bytes, static_cast<size_t>(size));
    return true;
  }

  pybind11::object items_;
  std::vector<pybind11::object> encoded_;
  std::vector<std::string_view> views_;
};

// Hands the memory over to NumPy.
template <class T>
pybind11::array_t<T> ToArray(Buffer<T>* buffer) {
  const auto size = static_cast<pybind11::ssize_t>(buffer->size());
  T* const memory = buffer->Release().release();
  const pybind11::capsule owner(memory, [](void* owned) { std::free(owned); });
  return pybind11::array_t<T>(size, memory, owner);
}

// A read-only view of `size` values that `owner` keeps.
template <class T>
pybind11::array ViewOf(const T* values, size_t size, const pybind11::object& owner) {
  pybind11::array_t<T> array(static_cast<pybind11::ssize_t>(size), values, owner);
  array.attr("flags").attr("writeable") = false;
  return array;
}

template <class Model>
typename Model::Workspace* ThreadWorkspace() {
  thread_local typename Model::Workspace workspace;
  return &workspace;
}

template <class Model>
std::shared_ptr<Model> Loaded(std::shared_ptr<const Model> model, const std::string& error) {
  if (model == nullptr) throw pybind11::value_error(error);
  return std::const_pointer_cast<Model>(model);  // pybind11 knows no const; every method bound is
}

template <class Model>
std::shared_ptr<Model> FromBytes(const pybind11::bytes& content) {
  std::string error;
  auto model = Model::FromBytes(ModelBytes(std::string_view(content)), &error);
  return Loaded<Model>(std::move(model), error);
}

template <class Model>
std::shared_ptr<Model> Load(const std::string& path) {
  std::string error;
  std::shared_ptr<const Model> model;
  {
    const pybind11::gil_scoped_release release;
    model = Model::Load(path, &error);
  }
  return Loaded<Model>(std::move(model), path + ": " + error);
}

template <class Model>
pybind11::array_t<int32_t> Encode(const Model& model, const pybind11::handle& text) {
  const Texts texts = Texts::One(text);
  Buffer<int32_t> ids;
  {
    const pybind11::gil_scoped_release release;
    model.Encode(texts.views()[0], ThreadWorkspace<Model>(), &ids);
  }
  return ToArray(&ids);
}

template <class Model>
pybind11::tuple EncodeBatch(const Model& model, const pybind11::handle& sequence) {
  const Texts texts(sequence);
  Buffer<int32_t> ids;
  Buffer<int64_t> splits;
  {
    const pybind11::gil_scoped_release release;
    splits.Reserve(texts.views().size() + 1);
    int64_t* split = splits.data();
    *split++ = 0;
    for (const std::string_view text : texts.views()) {
      model.Encode(text, ThreadWorkspace<Model>(), &ids);
      *split++ = static_cast<int64_t>(ids.size());
    }
    splits.Advance(texts.views().size() + 1);
  }
  return pybind11::make_tuple(ToArray(&ids), ToArray(&splits));
}

}  // namespace dpsr

#endif  // DPSR_TOKENIZER_CC_PYBIND_ENCODING_H_
