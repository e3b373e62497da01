// The engine page: the one page that all attached programs read.
#ifndef TOE_ENGINE_ENGINE_PAGE_H_
#define TOE_ENGINE_ENGINE_PAGE_H_

#include "base/result.h"
#include "base/unique_fd.h"
#include "engine/segment_store.h"
#include "shm/segment_format.h"

namespace toe::engine {

class EnginePage {
 public:
  /// Makes the page; it can be written through this object's mapping only, ever.
  static Result<EnginePage> make();

  shm::EnginePage& page() const { return *reinterpret_cast<shm::EnginePage*>(mapping_.base()); }
  /// A descriptor without the right to write, for programs. Stays this object's.
  int read_only_fd() const { return read_only_.get(); }

 private:
  Mapping mapping_;
  UniqueFd read_only_;
};

}  // namespace toe::engine

#endif  // TOE_ENGINE_ENGINE_PAGE_H_
