//! Implements the contract: calls the owners of the parts, and composes their answers.

use contracts::alpha::v1 as alpha;
use contracts::beta::v1 as beta;
use contracts::sample::v1::sample_service_server::SampleService;
use contracts::sample::v1::{GetOverviewRequest, GetOverviewResponse};
use mesh::compose::Parts;
use mesh::{Channel, Violations};
use tonic::{Code, Request, Response, Status, async_trait};

/// The domain in the `ErrorInfo` of this service's errors.
const DOMAIN: &str = "sample";

pub(crate) struct Overview {
    alpha: alpha::alpha_service_client::AlphaServiceClient<Channel>,
    beta: beta::beta_service_client::BetaServiceClient<Channel>,
}

impl Overview {
    pub(crate) fn new(channel: impl Fn(&'static str) -> Channel) -> Self {
        Self {
            alpha: alpha::alpha_service_client::AlphaServiceClient::new(channel("alpha")),
            beta: beta::beta_service_client::BetaServiceClient::new(channel("beta")),
        }
    }
}

#[async_trait]
impl SampleService for Overview {
    async fn get_overview(
        &self,
        request: Request<GetOverviewRequest>,
    ) -> Result<Response<GetOverviewResponse>, Status> {
        let alpha_id = request.into_inner().alpha_id;
        let mut bad = Violations::default();
        bad.uuid(&alpha_id, "alpha_id");
        bad.finish().map_err(|bad| mesh::error::invalid_fields(DOMAIN, bad))?;

        let parts = Parts::begin();
        let mut alpha = self.alpha.clone();
        let mut beta = self.beta.clone();
        let (
            alpha,
            beta,
        ) = tokio::try_join!(
            parts.required(alpha.get_alpha(alpha::GetAlphaRequest { alpha_id: alpha_id.clone() })),
            parts.optional("beta", beta.get_beta(beta::GetBetaRequest { alpha_id: alpha_id.clone() })),
        )
        .map_err(known)?;

        Ok(Response::new(GetOverviewResponse {
            alpha: alpha.alpha_part,
            beta: beta.and_then(|answer| answer.beta_part),
            unreachable: parts.unreachable(),
        }))
    }
}

/// The caller learns that what it asks for does not exist. Any other failure is one of this service.
fn known(status: Status) -> Status {
    if status.code() == Code::NotFound { mesh::peer::pass_on(status) } else { status }
}
