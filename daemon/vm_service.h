// VmService: the virtual machines that this host's sealiftd knows: their list, moves away from here, arrivals, and what
// people and other daemons ask about them.
//
// Threads: the io_context's. Ownership: the Daemon's; ends with it.
#pragma once

#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "daemon/connection.h"
#include "daemon/endpoint.h"
#include "daemon/options.h"
#include "daemon/peer.h"
#include "daemon/vm_book.h"
#include "daemon/vm_outgoing.h"
#include "vm/arrival.h"

namespace sealift::daemon {

class VmService {
 public:
  struct Parts {
    asio::io_context& io;
    const Options& options;
    std::function<std::shared_ptr<Peer>(const HostPort&)> peer_for;
    // What speaks with the enclaves of a VM's guest. May throw std::exception: the channel cannot be had.
    std::function<std::unique_ptr<vm::GuestPort>(const wire::VmAdd&)> guest_for;
  };
  explicit VmService(Parts parts);
  ~VmService();

  // Goes on with moves that an earlier life of this daemon had begun.
  void start();
  void stop();

  // False: not about VMs.
  bool cli_message(const std::shared_ptr<Connection>& from, const wire::Envelope& message);
  void peer_message(const std::shared_ptr<PeerSession>& from, const wire::Envelope& message);

 private:
  struct Watch {
    std::weak_ptr<Connection> cli;
    std::uint64_t request;
  };
  struct Incoming {
    std::shared_ptr<vm::Arrival> arrival;
    std::weak_ptr<PeerSession> source;
  };

  // vm_commands.cc
  void cli_add(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmAdd& request);
  void cli_remove(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmRemove& request);
  void cli_list(const std::shared_ptr<Connection>& from, std::uint64_t id);
  void cli_migrate(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmMigrate& request);
  void cli_cancel(const std::shared_ptr<Connection>& from, std::uint64_t id, const wire::VmCancel& request);
  void look_at(const wire::VmAdd& vm, std::function<void(const wire::VmRow&)> done);

  // vm_incoming.cc
  void incoming(const std::shared_ptr<PeerSession>& from, const wire::VmIncoming& request);
  void order(const std::shared_ptr<PeerSession>& from, const wire::VmOrder& order);
  void attach_unknown(const std::shared_ptr<PeerSession>& from, const wire::VmOrder& order);
  void answer_attaches();
  void make_arrival(const std::string& move, const std::shared_ptr<PeerSession>& from, const wire::VmAdd& vm,
                    vm::Arrival::Plan plan);
  void arrival_changed(const std::string& move);
  void tell(const std::shared_ptr<PeerSession>& source, const std::string& move, const vm::Arrival& arrival);
  void refuse(const std::shared_ptr<PeerSession>& source, const std::string& move, const wire::Failure& failure);

  [[nodiscard]] bool busy(const std::string& vm) const;
  [[nodiscard]] vm::GuestPort* guest(const wire::VmAdd& vm);
  [[nodiscard]] vm::Patience patience() const;
  [[nodiscard]] std::shared_ptr<OutgoingVm> make_outgoing(const wire::VmAdd& vm, const wire::VmBook::Leaving& leaving);
  void outgoing_changed(OutgoingVm& move);
  void watch(OutgoingVm& move, Watch watch);
  void report_progress();

  Parts parts_;
  VmBook book_;
  std::map<std::string, std::unique_ptr<vm::GuestPort>> guests_;  // by VM
  std::map<std::string, std::shared_ptr<OutgoingVm>> outgoing_;   // by VM; the last one stays, for `vm list`
  std::map<std::string, Incoming> incoming_;                      // by move
  std::map<std::string, std::string> last_incoming_;              // VM -> move
  // Sources that wait for what cannot be said yet.
  std::vector<std::pair<std::weak_ptr<PeerSession>, wire::VmOrder>> unanswered_;
  std::map<const OutgoingVm*, std::vector<Watch>> watches_;
  asio::steady_timer progress_timer_;
  bool stopping_ = false;
};

}  // namespace sealift::daemon
