// kv: a Redis-protocol server whose data lives in an enclave. Migration is nothing that this program knows of, but for
// its end: when the enclave has gone to another machine, so has everything that was to be served here.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <asio/post.hpp>
#include <filesystem>
#include <iostream>
#include <optional>

#include "examples/kv/server/address.h"
#include "examples/kv/server/listener.h"
#include "examples/kv/server/server.h"

namespace {

struct Arguments {
  std::string listen = "127.0.0.1:6379";
  std::string enclave = std::filesystem::read_symlink("/proc/self/exe").replace_filename("kv.enclave");
  unsigned workers = 4;
};

// The address that was asked for; or, rather than give up data that is nowhere else, a free one.
void listen(std::optional<kv::Listener>& listener, asio::io_context& io, asio::ip::tcp::endpoint address) {
  try {
    return listener->listen();
  } catch (const std::runtime_error& error) {
    std::cerr << "kv: " << error.what() << "; the migrated data is served on a free port instead\n";
  }
  address.port(0);
  listener.emplace(io, address).listen();
}

int serve(const Arguments& arguments) {
  std::optional<asio::io_context> io(std::in_place, 1);
  const asio::ip::tcp::endpoint address = kv::parse_address(arguments.listen);
  std::optional<kv::Listener> listener(std::in_place, *io, address);
  const auto enclave = sealift::Enclave::open(arguments.enclave);
  const bool adopted = enclave->status().adopted;
  if (listener->shared() && !adopted) {
    throw std::runtime_error("cannot listen on " + listener->address() + ": another kv serves there: choose another " +
                             "with --listen");
  }
  kv::Server server(*enclave, arguments.workers);
  adopted ? listen(listener, *io, address) : listener->listen();
  server.accept_from(listener->acceptor());
  std::cout << "listening on " << listener->address() << std::endl;
  std::thread watch([&] {
    enclave->wait_until_gone();
    asio::post(*io, [&] { io->stop(); });
  });
  io->run();
  // At once, for on this same machine the enclave's next program waits for the address.
  listener.reset();
  watch.join();
  io.reset();  // before the server: the accept that waits has a socket of one of its workers
  server.stop();
  if (!enclave->status().destroyed) throw std::runtime_error(enclave->crash_report());
  std::cout << "the enclave has migrated away" << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("kv: a Redis-protocol server whose data lives in an enclave");
  app.add_option("--listen", arguments.listen, "IP:PORT for clients; port 0 takes a free one and prints it")
      ->capture_default_str();
  app.add_option("--enclave", arguments.enclave, "The signed enclave (default: kv.enclave beside this program)");
  app.add_option("--workers", arguments.workers, "Threads that serve connections")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return serve(arguments);
  } catch (const std::exception& error) {
    std::cerr << "kv: " << error.what() << '\n';
    return 1;
  }
}
