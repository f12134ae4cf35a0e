//! Images that are looked up at the start, before the first review needs them.

use std::time::Instant;

use futures::StreamExt;

use super::Inspector;
use crate::image::Depth;
use crate::text;

/// Images that are warmed at the same time.
const WARMED_AT_ONCE: usize = 8;

/// Number of images between two log lines about the progress.
const WARMED_BETWEEN_LINES: usize = 50;

impl Inspector {
    /// Looks up the images of `warm` and `warmFile`, with their layers. Waits for at most `warmTimeout`; the rest
    /// continues in a task of its own.
    pub async fn warm(&self) {
        let images = self.shared.warm.clone();
        if images.is_empty() {
            return;
        }
        let (inspector, bound) = (self.clone(), self.shared.warm_timeout);
        let task = tokio::spawn(async move { inspector.warm_all(images).await });
        if tokio::time::timeout(bound, task).await.is_err() {
            tracing::info!(waited = ?bound, "serving while the remaining images are warmed");
        }
    }

    async fn warm_all(&self, images: Vec<String>) {
        let (total, start) = (images.len(), Instant::now());
        tracing::info!(images = total, "warming images");
        let (mut done, mut failed) = (0_usize, 0_usize);
        let mut looks = futures::stream::iter(images)
            .map(|image| async move {
                let bound = self.shared.lookup_timeout;
                (self.inspect(&image, Depth::Layers, bound).await.map(|_| ()), image)
            })
            .buffer_unordered(WARMED_AT_ONCE);
        while let Some((outcome, image)) = looks.next().await {
            done += 1;
            if let Err(error) = outcome {
                failed += 1;
                tracing::warn!(image = text::quoted(&image, 200), %error, "could not warm an image");
            }
            if done % WARMED_BETWEEN_LINES == 0 {
                tracing::info!(done, total, failed, "warming images");
            }
        }
        tracing::info!(total, failed, took = ?start.elapsed(), "warmed images");
    }
}
