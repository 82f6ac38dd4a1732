#include "daemon/vm_book.h"

#include <google/protobuf/repeated_field.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <system_error>

#include "daemon/journal.h"

namespace sealift::daemon {

namespace {

constexpr int kArrivals = 64;  // remembered; a source asks again within its daemon's life, not years later

template <typename List, typename Test>
void erase_if(List& list, Test test) {
  list.erase(std::remove_if(list.begin(), list.end(), test), list.end());
}

}  // namespace

VmBook::VmBook(std::filesystem::path state_dir) : path_(std::move(state_dir) / "vms") {
  std::ifstream file(path_, std::ios::binary);
  if (!file) return;
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (book_.ParseFromString(bytes.str())) return;
  book_.Clear();
  book_.set_incomplete(true);
  const std::filesystem::path aside = path_.string() + ".unreadable";
  std::error_code error;
  std::filesystem::rename(path_, aside, error);
  spdlog::error("{} cannot be read ({}): no VM is known; add them again", path_.string(),
                error ? error.message() : "put aside as " + aside.filename().string());
  save();
}

void VmBook::save() const {
  replace_file(path_, book_.SerializeAsString());
}

wire::VmAdd* VmBook::find(const std::string& name) {
  for (wire::VmAdd& vm : *book_.mutable_vms()) {
    if (vm.name() == name) return &vm;
  }
  return nullptr;
}

void VmBook::add(const wire::VmAdd& vm) {
  wire::VmAdd* known = find(vm.name());
  *(known != nullptr ? known : book_.add_vms()) = vm;
  save();
}

void VmBook::remove(const std::string& name) {
  erase_if(*book_.mutable_vms(), [&](const wire::VmAdd& vm) { return vm.name() == name; });
  save();
}

void VmBook::leaving(const wire::VmBook::Leaving& move) {
  erase_if(*book_.mutable_leaving(), [&](const auto& each) { return each.move() == move.move(); });
  *book_.add_leaving() = move;
  save();
}

void VmBook::left(const std::string& move) {
  erase_if(*book_.mutable_leaving(), [&](const auto& each) { return each.move() == move; });
  save();
}

void VmBook::arrived(const wire::VmBook::Arrived& move) {
  if (find_arrived(move.move()) != nullptr) return;
  auto& list = *book_.mutable_arrived();
  if (list.size() >= kArrivals) list.erase(list.begin());
  *list.Add() = move;
  save();
}

const wire::VmBook::Arrived* VmBook::find_arrived(const std::string& move) const {
  for (const auto& each : book_.arrived()) {
    if (each.move() == move) return &each;
  }
  return nullptr;
}

}  // namespace sealift::daemon
