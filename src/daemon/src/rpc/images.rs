//! ImageService: each method converts, calls the service, and converts.

use super::convert;
use super::parts::in_parts;
use super::status::{failed, refused};
use cringle_domain::image::Image;
use cringle_image::PullRequest;
use cringle_proto_cri::v1;
use cringle_service::clock::Clock;
use cringle_service::{Service, ServiceError};
use std::collections::HashMap;
use std::sync::Arc;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tracing::Span;

/// ImageService on top of the use cases.
#[derive(Debug)]
pub(crate) struct ImageRpc {
    service: Arc<Service>,
    clock: Clock,
}

type Answer<T> = Result<Response<T>, Status>;

impl ImageRpc {
    /// ImageService of these use cases.
    pub(crate) fn new(service: Arc<Service>, clock: Clock) -> Self {
        Self { service, clock }
    }

    fn listed(&self, filter: Option<v1::ImageFilter>) -> Vec<v1::Image> {
        let images = self.service.images();
        let found = match convert::image_filter(filter) {
            Some(text) => images.resolve(&text).into_iter().collect(),
            None => images.list(),
        };
        found.iter().map(|image| convert::image_item(image)).collect()
    }

    /// The image that a text means, if there is one.
    fn found(&self, text: &str) -> Result<Option<Arc<Image>>, Status> {
        let images = self.service.images();
        let found = images.resolve(text);
        if found.is_none() && images.is_ambiguous(text) {
            return Err(failed(&ServiceError::AmbiguousId(text.to_owned())));
        }
        Ok(found)
    }

    /// The size of an image that was here a moment ago; nothing if somebody has removed it meanwhile.
    fn size_of(&self, id: &str) -> u64 {
        self.service.images().resolve(id).map(|image| image.record.size).unwrap_or_default()
    }

    fn info_of(&self, image: &Image) -> Result<HashMap<String, String>, Status> {
        let images = self.service.images();
        let config = tokio::task::block_in_place(|| images.raw_config(&image.record));
        let config = config.map_err(|source| {
            let action = format!("read the configuration of image {}", image.record.id);
            failed(&ServiceError::Images { action, source })
        })?;
        Ok(super::verbose::image(&self.service, image, &config))
    }
}

#[tonic::async_trait]
impl v1::image_service_server::ImageService for ImageRpc {
    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Answer<v1::ListImagesResponse> {
        let images = self.listed(request.into_inner().filter);
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Answer<BoxStream<v1::StreamImagesResponse>> {
        let images = self.listed(request.into_inner().filter);
        Ok(Response::new(in_parts(images, |images| v1::StreamImagesResponse { images })))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let request = request.into_inner();
        let text = convert::image_text(request.image).map_err(|refusal| refused(&refusal))?;
        let found = self.found(&text)?;
        let info = match &found {
            Some(image) if request.verbose => self.info_of(image)?,
            Some(_) | None => HashMap::new(),
        };
        let image = found.map(|image| convert::image_item(&image));
        Ok(Response::new(v1::ImageStatusResponse { image, info }))
    }

    /// Not in a task of its own: a client that leaves does not want the image any more. Others that want the same one keep
    /// the pull alive.
    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Answer<v1::PullImageResponse> {
        let request = request.into_inner();
        let (reference, handler) =
            convert::pulled_image(request.image).map_err(|refusal| refused(&refusal))?;
        Span::current().record("image", &reference);
        self.service.require_known_handler(&handler).map_err(|error| failed(&error))?;
        let credentials =
            convert::credentials(request.auth).map_err(|refusal| refused(&refusal))?;
        let pull = PullRequest { reference, credentials };
        let id = self.service.images().pull(&pull).await;
        self.service.note_pull(id.as_ref().ok().map(|id| self.size_of(&id.to_string())));
        let id = id.map_err(|error| failed(&ServiceError::Pull(error)))?;
        Ok(Response::new(v1::PullImageResponse { image_ref: id.to_string() }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let text =
            convert::image_text(request.into_inner().image).map_err(|refusal| refused(&refusal))?;
        Span::current().record("image", &text);
        // Success would say that it is gone.
        self.found(&text)?;
        let removed = self.service.images().remove(&text).await;
        removed.map_err(|source| {
            failed(&ServiceError::Images { action: format!("remove image \"{text}\""), source })
        })?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(
        &self,
        _: Request<v1::ImageFsInfoRequest>,
    ) -> Answer<v1::ImageFsInfoResponse> {
        let usage = self.service.images().usage();
        let mountpoint = usage.mountpoint.to_string_lossy().into_owned();
        let filesystem = |(bytes, inodes)| v1::FilesystemUsage {
            timestamp: self.clock.now().to_wire(),
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: mountpoint.clone() }),
            used_bytes: Some(v1::UInt64Value { value: bytes }),
            inodes_used: Some(v1::UInt64Value { value: inodes }),
        };
        // Both are below one root, so they have one mount point, by which the kubelet tells that it is one file system.
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![filesystem((usage.bytes, usage.inodes))],
            container_filesystems: vec![filesystem(self.service.layers_usage())],
        }))
    }
}
