#include "attestation/collateral_files.h"

#include <fstream>
#include <iterator>

namespace sealift::attestation {

Result<Collateral, std::string> load_collateral(const std::string& folder) {
  Collateral collateral;
  std::string pck_crl, root_ca_crl;
  const std::pair<const char*, std::string*> files[] = {
      {"tcb_info.json", &collateral.tcb_info},
      {"tcb_info_issuer_chain.pem", &collateral.tcb_info_issuer_chain},
      {"qe_identity.json", &collateral.qe_identity},
      {"qe_identity_issuer_chain.pem", &collateral.qe_identity_issuer_chain},
      {"pck_crl.der", &pck_crl},
      {"root_ca_crl.der", &root_ca_crl},
  };
  std::size_t total = 0;
  for (const auto& [name, contents] : files) {
    const std::string path = folder + "/" + name;
    std::ifstream in(path, std::ios::binary);
    contents->assign(std::istreambuf_iterator<char>(in), {});
    if (!in.is_open() || in.bad()) return "cannot read collateral " + path;
    total += contents->size();
    if (total > kMaxCollateralSize) return "collateral in " + folder + " is too large";
  }
  collateral.pck_crl.assign(pck_crl.begin(), pck_crl.end());
  collateral.root_ca_crl.assign(root_ca_crl.begin(), root_ca_crl.end());
  return collateral;
}

}  // namespace sealift::attestation
